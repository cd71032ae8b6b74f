"""Batches for the workers, streamed by Ray Data: one block a share, dealt in turn.

A read task reads the files of a window of steps and yields the shares of its batches, encoded, in
order. Ray Data keeps the order of tasks and blocks, and deals blocks of one row to the workers in
turn; so worker r gets every share r of every round, whoever reads what when. A whole run is one
dataset, which begins at any step.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, Datasource, ExecutionOptions, ReadTask
from ray.data.block import BlockMetadata

from c3l_ray.train import batches, order
from c3l_ray.train.config import TrainConfig
from c3l_ray.train.encode import encode
from c3l_ray.train.examples import Standings
from c3l_ray.train.order import Part, Places

Read = Callable[[str, Sequence[int]], list[dict[str, Any]]]
"""Rows of a file of records, by the file's name and their numbers in it."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a run learns from and what it is evaluated on.

    Attributes:
        parts: to learn from.
        held_out: to evaluate on.
        standings: sorted scores by kind, for `--within kind`.
        read: rows of a part.
    """

    parts: tuple[Part, ...]
    held_out: tuple[Part, ...]
    standings: Standings
    read: Read


def training(
    config: TrainConfig, data: Data, *, first_step: int, num_steps: int, num_workers: int
) -> list[Any]:
    """Iterators over the shares of the steps [first_step, num_steps), one for each worker."""
    batch_size = config.optim.batch_size
    windows = order.windows(
        data.parts,
        batch_size=batch_size,
        seed=config.optim.seed,
        window_images=config.optim.window_images,
        first_step=first_step,
        num_steps=num_steps,
    )
    tasks = [(data.parts, list(window.places)) for window in windows]
    return _dealt(config, data, tasks, num_workers)


def evaluation(config: TrainConfig, data: Data, *, num_workers: int) -> list[Any]:
    """Iterators over the shares of the held-out images; each pass over them reads them again."""
    held_out = list(order.in_order(data.held_out, batch_size=config.optim.batch_size))
    tasks = [(data.held_out, [places]) for places in held_out]
    return _dealt(config, data, tasks, num_workers)


def rounds(config: TrainConfig, num_workers: int) -> int:
    """Shares of a batch that each worker takes."""
    return order.num_rounds(config.optim.batch_size, num_workers, config.optim.micro_batch)


def shares(iterator: Any) -> Iterator[batches.Batch]:
    """A worker's shares, as tensors."""
    for block in iterator.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2):
        assert block.num_rows == 1, f"a block of {block.num_rows} shares"
        yield batches.from_bytes(block["share"][0].as_py())


class Windows(Datasource):
    """One read task a window; one block a share.

    Args:
        tasks: for each the parts, and the places [batch_size, 2] of its steps.
        encode: a list of records into shares.
        read: rows of a part.
    """

    def __init__(
        self,
        tasks: list[tuple[tuple[Part, ...], list[Places]]],
        encode: Callable[[list[dict[str, Any]]], Iterator[batches.Batch]],
        read: Read,
    ) -> None:
        super().__init__()
        self._tasks = tasks
        self._encode = encode
        self._read = read

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        return [
            ReadTask(
                functools.partial(_read_window, _only(parts, steps), self._encode, self._read),
                BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None),
            )
            for parts, steps in self._tasks
        ]

    def estimate_inmemory_data_size(self) -> int | None:
        return None


def _only(parts: tuple[Part, ...], steps: list[Places]) -> list[list[tuple[str, int]]]:
    """The file's name and the row of every place, for a task to carry."""
    return [[(parts[part].name, int(row)) for part, row in places] for places in steps]


def _read_window(
    steps: list[list[tuple[str, int]]],
    encode: Callable[[list[dict[str, Any]]], Iterator[batches.Batch]],
    read: Read,
) -> Iterator[pa.Table]:
    wanted: dict[str, list[int]] = {}
    for name, row in (place for places in steps for place in places):
        wanted.setdefault(name, []).append(row)
    records = {
        (name, row): record
        for name, rows in wanted.items()
        for row, record in zip(rows, read(name, rows), strict=True)
    }
    for places in steps:
        for share in encode([records.pop(place) for place in places]):
            yield pa.table({"share": [batches.to_bytes(share)]})


def _dealt(
    config: TrainConfig,
    data: Data,
    tasks: list[tuple[tuple[Part, ...], list[Places]]],
    num_workers: int,
) -> list[Any]:
    make = functools.partial(
        encode,
        config=config,
        standings=data.standings,
        num_workers=num_workers,
        rounds=rounds(config, num_workers),
    )
    context = DataContext.get_current()
    context.target_max_block_size = 1  # byte: each share is a block, and leaves as it is made
    context.enable_progress_bars = False
    context.execution_options = ExecutionOptions(preserve_order=True)
    dataset = ray.data.read_datasource(
        Windows(tasks, make, data.read),
        override_num_blocks=len(tasks),
        concurrency=config.workers.readers,
        num_cpus=1,
    )
    # Not `equal`: that would cut blocks. The first of the emptiest workers gets the next block.
    return list(dataset.streaming_split(num_workers, equal=False))
