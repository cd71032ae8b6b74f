"""Batches for the workers, streamed by Ray Data: one block a share, dealt in turn.

A read task reads the files of a window of steps and yields the shares of its batches, encoded, in
order. Ray Data keeps the order of tasks and blocks, and deals blocks of one row to the workers in
turn; so worker r gets every share r of every round, whoever reads what when. A whole run is one
dataset, which begins at any step.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import ray
from ray.data import DataContext, Datasource, ExecutionOptions, ReadTask
from ray.data.block import BlockMetadata

from c3l_ray.train.reading import batches, mixture, order
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.train.reading.encode import encode
from c3l_ray.train.reading.examples import Draw, Standings
from c3l_ray.train.reading.mixture import Set
from c3l_ray.train.reading.order import Part, Places

Read = Callable[[str, Sequence[int]], list[dict[str, Any]]]
"""Rows of a file of records, by the file's name and their numbers in it."""


class Encode(Protocol):
    """The records of a batch, and what a mixture draws of each, into the shares of it."""

    def __call__(
        self, records: list[dict[str, Any]], *, draws: list[Draw | None]
    ) -> Iterator[batches.Batch]: ...


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a run learns from and what it is evaluated on.

    Attributes:
        parts: to learn from.
        held_out: to evaluate on.
        standings: sorted scores by kind, for `--within kind`.
        read: rows of a part.
        sets: turns of the parts to learn from, where the objective draws of a mixture.
    """

    parts: tuple[Part, ...]
    held_out: tuple[Part, ...]
    standings: Standings
    read: Read
    sets: tuple[Set, ...] = ()


def training(
    config: TrainConfig, data: Data, *, first_step: int, num_steps: int, num_workers: int
) -> list[Any]:
    """Iterators over the shares of the steps [first_step, num_steps), one for each worker."""
    windows = (
        functools.partial(mixture.windows, data.sets, shares_of_sets(config, data))
        if data.sets
        else functools.partial(order.windows, data.parts)
    )
    tasks = [
        _task(data.parts, window.places)
        for window in windows(
            batch_size=config.optim.batch_size,
            seed=config.optim.seed,
            window_images=config.optim.window_images,
            first_step=first_step,
            num_steps=num_steps,
        )
    ]
    return _dealt(config, data, tasks, num_workers)


def shares_of_sets(config: TrainConfig, data: Data) -> list[float]:
    """The share of the draws that each set of the data has."""
    return mixture.shares([len(each.turns) for each in data.sets], config.mixture.by)


def evaluation(config: TrainConfig, data: Data, *, num_workers: int) -> list[Any]:
    """Iterators over the shares of the held-out images; each pass over them reads them again."""
    steps = order.in_order(data.held_out, batch_size=config.optim.batch_size)
    tasks = [_task(data.held_out, places[None]) for places in steps]
    return _dealt(config, data, tasks, num_workers)


def rounds(config: TrainConfig, num_workers: int) -> int:
    """Shares of a batch that each worker takes."""
    return order.num_rounds(config.optim.batch_size, num_workers, config.optim.micro_batch)


def shares(iterator: Any) -> Iterator[batches.Batch]:
    """A worker's shares, as tensors."""
    for block in iterator.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2):
        assert block.num_rows == 1, f"a block of {block.num_rows} shares"
        yield batches.from_bytes(block["share"][0].as_py())


def in_batches(iterator: Any, rounds: int) -> Iterator[tuple[batches.Batch, ...]]:
    """A worker's shares of each batch, one a round."""
    return zip(*[shares(iterator)] * rounds, strict=True)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one task reads, with nothing of what the others do.

    Attributes:
        files: names of the parts it reads.
        places: of its steps [steps, batch_size, 2 or 4], parts numbered as in `files`.
    """

    files: tuple[str, ...]
    places: Places


class Windows(Datasource):
    """One read task a window; one block a share.

    Args:
        tasks: of the run, in order.
        encode: records of a batch into shares.
        read: rows of a part.
    """

    def __init__(self, tasks: list[Task], encode: Encode, read: Read) -> None:
        super().__init__()
        self._tasks = tasks
        self._encode = encode
        self._read = read

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        return [
            ReadTask(
                functools.partial(_read_window, task, self._encode, self._read),
                BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None),
            )
            for task in self._tasks
        ]

    def estimate_inmemory_data_size(self) -> int | None:
        return None


def _task(parts: tuple[Part, ...], places: Places) -> Task:
    """The task of some steps [steps, batch_size, 2 or 4]."""
    numbers, renumbered = np.unique(places[..., 0], return_inverse=True)
    within = places.copy()
    within[..., 0] = renumbered.reshape(places.shape[:-1])
    return Task(files=tuple(parts[number].name for number in numbers), places=within)


def _read_window(task: Task, encode: Encode, read: Read) -> Iterator[pa.Table]:
    records: dict[tuple[int, int], dict[str, Any]] = {}
    for number, name in enumerate(task.files):
        # A mixture draws several turns of a row, and those of a small set again.
        rows = np.unique(task.places[task.places[..., 0] == number][:, 1]).tolist()
        records |= {
            (number, row): record for row, record in zip(rows, read(name, rows), strict=True)
        }
    for places in task.places.tolist():
        draws = [(place[2], place[3]) if place[2:] else None for place in places]
        for share in encode([records[place[0], place[1]] for place in places], draws=draws):
            yield pa.table({"share": [batches.to_bytes(share)]})


def _dealt(config: TrainConfig, data: Data, tasks: list[Task], num_workers: int) -> list[Any]:
    make = functools.partial(
        encode,
        config=config,
        standings=data.standings,
        num_workers=num_workers,
        rounds=rounds(config, num_workers),
    )
    context = DataContext.get_current().copy()
    context.target_max_block_size = 1  # byte: each share is a block, and leaves as it is made
    context.enable_progress_bars = False
    context.execution_options = ExecutionOptions(preserve_order=True)
    with DataContext.current(context):
        dataset = ray.data.read_datasource(
            Windows(tasks, make, data.read),
            override_num_blocks=len(tasks),
            concurrency=config.workers.readers,
            num_cpus=1,
        )
    # Not `equal`: that would cut blocks. The first of the emptiest workers gets the next block.
    return list(dataset.streaming_split(num_workers, equal=False))
