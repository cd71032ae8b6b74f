"""In which order images are trained on: a function of the seed, whoever reads and how many train.

An epoch shuffles the files, the rows in each, and then all rows inside windows of neighbouring
files, so that a reader needs few files at a time. A step's batch is cut into equal shares, one for
each worker and accumulation round; so the batches of a run, and their order, do not change with the
number of workers, and a run resumes from the number of its step alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]  # [..., 2]: the number of a part, and a row in it


@dataclass(frozen=True, kw_only=True)
class Part:
    """A file of records, and the rows in it that can be trained on."""

    name: str
    rows: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Some consecutive steps that one task reads.

    Attributes:
        first_step: of the run, from 0.
        places: [steps, batch_size, 2], or 4 from a mixture, which draws turns of rows.
    """

    first_step: int
    places: Places


def num_images(parts: Sequence[Part]) -> int:
    return sum(len(part.rows) for part in parts)


def windows(
    parts: Sequence[Part],
    *,
    batch_size: int,
    seed: int,
    window_images: int,
    first_step: int,
    num_steps: int,
) -> Iterator[Window]:
    """The windows of the steps [first_step, num_steps) of a run, in order.

    Epochs follow each other; each leaves out what does not fill a batch, other images every time.

    Args:
        parts: with at least a batch of images in all.
        batch_size: images in a step.
        seed: of the order.
        window_images: images that are shuffled among each other after their files were.
        first_step: where to begin.
        num_steps: of the whole run.
    """
    an_epoch = num_images(parts) // batch_size
    a_window = max(1, window_images // batch_size)
    step = first_step
    while step < num_steps:
        epoch, at = divmod(step, an_epoch)
        order = epoch_order(parts, batch_size=batch_size, seed=seed, epoch=epoch)
        while at < an_epoch and step < num_steps:
            number = at // a_window
            from_, to = number * a_window, min((number + 1) * a_window, an_epoch)
            rows = order[from_ * batch_size : to * batch_size]
            rows = np.random.default_rng([seed, epoch, number]).permutation(rows)
            steps = rows.reshape(to - from_, batch_size, 2)[at - from_ :][: num_steps - step]
            yield Window(first_step=step, places=steps)
            step += len(steps)
            at += len(steps)


def epoch_order(parts: Sequence[Part], *, batch_size: int, seed: int, epoch: int) -> Places:
    """All rows of an epoch file by file [N, 2], the last incomplete batch left out."""
    rng = np.random.default_rng([seed, epoch])
    order = np.concatenate(
        [
            np.stack([np.full(len(rows), i), rng.permutation(rows)], axis=1)
            for i in rng.permutation(len(parts))
            if len(rows := np.asarray(parts[i].rows, dtype=np.int64))
        ]
    )
    return order[: len(order) // batch_size * batch_size]


def in_order(parts: Sequence[Part], *, batch_size: int) -> Iterator[Places]:
    """Batches of all rows as they stand, the last one perhaps smaller."""
    order = np.concatenate(
        [
            np.stack([np.full(len(part.rows), i), np.asarray(part.rows)], axis=1)
            for i, part in enumerate(parts)
            if part.rows
        ]
    )
    for first in range(0, len(order), batch_size):
        yield order[first : first + batch_size]


def num_rounds(batch_size: int, num_workers: int, micro_batch: int) -> int:
    """Accumulation rounds in which the workers take a batch, at most `micro_batch` images each."""
    return -(-batch_size // (num_workers * micro_batch))


def shares(batch_size: int, num_workers: int, rounds: int) -> list[slice]:
    """The batch's shares: round after round, worker after worker; their sizes differ by one.

    A batch of fewer images than there are shares leaves some of them empty.
    """
    num = num_workers * rounds
    return [slice(i * batch_size // num, (i + 1) * batch_size // num) for i in range(num)]
