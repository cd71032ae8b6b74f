"""In which order images are trained on: a function of the seed, whoever reads and how many train.

An epoch shuffles the files, the rows in each, and then all rows inside windows of neighbouring
files, so that a reader needs few files at a time. A step's batch is cut into equal micro-batches,
one for each worker and accumulation step; so the batches of a run, and their order, do not change
with the number of workers, and a run resumes from the number of its step alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RowIndices = NDArray[np.int64]
"""[..., 2]: the number of a file, and of a row in it."""


@dataclass(frozen=True, kw_only=True)
class FileRows:
    """A file of records, and the rows in it that can be trained on.

    Attributes:
        address: all that reading the file takes.
        rows: their numbers.
    """

    address: str
    rows: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The steps [first_step, num_steps) of a run.

    Attributes:
        batch_size: images in a step.
        seed: of the order.
        shuffle_window: images that are shuffled among each other after their files were.
        first_step: where to begin.
        num_steps: of the whole run.
    """

    batch_size: int
    seed: int
    shuffle_window: int
    first_step: int
    num_steps: int

    @property
    def steps_per_window(self) -> int:
        return max(1, self.shuffle_window // self.batch_size)


@dataclass(frozen=True, kw_only=True)
class Window:
    """Some consecutive steps that one task reads.

    Attributes:
        first_step: of the run, from 0.
        rows: [steps, batch_size, 2], or 4 from a mixture, which draws turns of rows.
    """

    first_step: int
    rows: RowIndices


def count_images(files: Sequence[FileRows]) -> int:
    """The rows of all files."""
    return sum(len(file.rows) for file in files)


def plan_epochs(files: Sequence[FileRows], schedule: Schedule) -> Iterator[Window]:
    """The windows of a schedule's steps, in order.

    Epochs follow each other; each leaves out what does not fill a batch, other images every time.

    Args:
        files: with at least a batch of images in all.
        schedule: which steps.
    """
    batch_size, seed = schedule.batch_size, schedule.seed
    steps_per_epoch = count_images(files) // batch_size
    step = schedule.first_step
    while step < schedule.num_steps:
        epoch, step_in_epoch = divmod(step, steps_per_epoch)
        epoch_rows = shuffle_epoch(files, batch_size=batch_size, seed=seed, epoch=epoch)
        while step_in_epoch < steps_per_epoch and step < schedule.num_steps:
            number = step_in_epoch // schedule.steps_per_window
            start = number * schedule.steps_per_window
            end = min(start + schedule.steps_per_window, steps_per_epoch)
            rows = epoch_rows[start * batch_size : end * batch_size]
            rows = np.random.default_rng([seed, epoch, number]).permutation(rows)
            steps = rows.reshape(end - start, batch_size, 2)[step_in_epoch - start :]
            steps = steps[: schedule.num_steps - step]
            yield Window(first_step=step, rows=steps)
            step += len(steps)
            step_in_epoch += len(steps)


def shuffle_epoch(
    files: Sequence[FileRows], *, batch_size: int, seed: int, epoch: int
) -> RowIndices:
    """All rows of an epoch file by file [N, 2], the last incomplete batch left out."""
    rng = np.random.default_rng([seed, epoch])
    indices = np.concatenate(
        [
            np.stack([np.full(len(rows), number), rng.permutation(rows)], axis=1)
            for number in rng.permutation(len(files))
            if len(rows := np.asarray(files[number].rows, dtype=np.int64))
        ]
    )
    return indices[: len(indices) // batch_size * batch_size]


def iter_unshuffled(files: Sequence[FileRows], *, batch_size: int) -> Iterator[RowIndices]:
    """Batches of all rows as they stand, the last one perhaps smaller."""
    indices = np.concatenate(
        [
            np.stack([np.full(len(file.rows), number), np.asarray(file.rows)], axis=1)
            for number, file in enumerate(files)
            if file.rows
        ]
    )
    for first in range(0, len(indices), batch_size):
        yield indices[first : first + batch_size]


def split_batch(batch_size: int, num_workers: int, accumulation_steps: int) -> list[slice]:
    """The batch's micro-batches: all workers' first ones, then their second ones, and so on.

    Their sizes differ by one. A batch of fewer images than there are micro-batches leaves some of
    them empty.
    """
    num = num_workers * accumulation_steps
    return [slice(i * batch_size // num, (i + 1) * batch_size // num) for i in range(num)]
