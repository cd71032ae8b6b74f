"""Batches for the workers, streamed by Ray Data: one block a micro-batch, dealt in turn.

A read task reads the files of a window of steps and yields the micro-batches of its batches,
encoded, in order. Ray Data keeps the order of tasks and blocks, and deals blocks of one row to the
workers in turn; so worker r gets the r-th micro-batch of every accumulation step, whoever reads
what when. A whole run is one dataset, which begins at any step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import ray
from ray.data import DataContext, Datasource, ExecutionOptions, ReadTask
from ray.data.block import BlockMetadata

from c3l_ray.schema import Record
from c3l_ray.train.reading import batches, order
from c3l_ray.train.reading.batches import MicroBatch
from c3l_ray.train.reading.encode import encode_batch
from c3l_ray.train.reading.mixture import TurnDraw, plan_draws
from c3l_ray.train.reading.order import FileRows, RowIndices, Schedule
from c3l_ray.train.reading.training_data import ReadRows, TrainingData
from c3l_ray.train.training_config import TrainConfig


class EncodeBatch(Protocol):
    """The records of a batch, and what a mixture draws of each, into its micro-batches."""

    def __call__(
        self, records: list[Record], *, draws: list[TurnDraw | None]
    ) -> Iterator[MicroBatch]: ...


def stream_training(
    config: TrainConfig, data: TrainingData, *, first_step: int, num_steps: int, num_workers: int
) -> list[Any]:
    """Ray's iterators over the micro-batches of the steps [first_step, num_steps), for each worker.

    Args:
        config: of the run.
        data: to learn from.
        first_step: where to begin.
        num_steps: of the whole run.
        num_workers: that share each batch.
    """
    schedule = Schedule(
        batch_size=config.optim.batch_size,
        seed=config.optim.seed,
        shuffle_window=config.optim.shuffle_window,
        first_step=first_step,
        num_steps=num_steps,
    )
    windows = (
        plan_draws(data.sets, data.set_shares(config), schedule)
        if data.sets
        else order.plan_epochs(data.files, schedule)
    )
    tasks = [_make_task(data.files, window.rows) for window in windows]
    return _deal_to_workers(config, data, tasks, num_workers)


def stream_held_out(config: TrainConfig, data: TrainingData, *, num_workers: int) -> list[Any]:
    """Ray's iterators over the held-out images; each pass over them reads them again."""
    steps = order.iter_unshuffled(data.held_out, batch_size=config.optim.batch_size)
    tasks = [_make_task(data.held_out, rows[None]) for rows in steps]
    return _deal_to_workers(config, data, tasks, num_workers)


def iter_batches(iterator: Any, accumulation_steps: int) -> Iterator[tuple[MicroBatch, ...]]:
    """A worker's micro-batches of each batch, as tensors."""
    return zip(*[_iter_micro_batches(iterator)] * accumulation_steps, strict=True)


def _iter_micro_batches(iterator: Any) -> Iterator[MicroBatch]:
    for block in iterator.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2):
        assert block.num_rows == 1, f"a block of {block.num_rows} micro-batches"
        yield batches.from_bytes(block["micro_batch"][0].as_py())


@dataclass(frozen=True, kw_only=True)
class WindowTask:
    """What one task reads, with nothing of what the others do.

    Attributes:
        files: addresses of those that it reads.
        rows: of its steps [steps, batch_size, 2 or 4], files numbered as in `files`.
    """

    files: tuple[str, ...]
    rows: RowIndices


class WindowsDatasource(Datasource):
    """One read task a window; one block a micro-batch.

    Args:
        tasks: of the run, in order.
        encode: records of a batch into micro-batches.
        read: rows of a file.
    """

    def __init__(self, tasks: list[WindowTask], encode: EncodeBatch, read: ReadRows) -> None:
        super().__init__()
        self._tasks = tasks
        self._encode = encode
        self._read = read

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        return [
            ReadTask(
                partial(_read_window, task, self._encode, self._read),
                BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None),
            )
            for task in self._tasks
        ]

    def estimate_inmemory_data_size(self) -> int | None:
        return None


def _make_task(files: tuple[FileRows, ...], rows: RowIndices) -> WindowTask:
    """The task of some steps [steps, batch_size, 2 or 4]."""
    numbers, own_numbers = np.unique(rows[..., 0], return_inverse=True)
    own_rows = rows.copy()
    own_rows[..., 0] = own_numbers.reshape(rows.shape[:-1])
    return WindowTask(files=tuple(files[number].address for number in numbers), rows=own_rows)


def _read_window(task: WindowTask, encode: EncodeBatch, read: ReadRows) -> Iterator[pa.Table]:
    records: dict[tuple[int, int], Record] = {}
    for number, address in enumerate(task.files):
        # A mixture draws several turns of a row, and those of a small set again.
        rows = np.unique(task.rows[task.rows[..., 0] == number][:, 1]).tolist()
        records |= {
            (number, row): record for row, record in zip(rows, read(address, rows), strict=True)
        }
    for step in task.rows.tolist():
        draws = [TurnDraw(*draw) if draw else None for _, _, *draw in step]
        for micro_batch in encode([records[file, row] for file, row, *_ in step], draws=draws):
            yield pa.table({"micro_batch": [batches.to_bytes(micro_batch)]})


def _deal_to_workers(
    config: TrainConfig, data: TrainingData, tasks: list[WindowTask], num_workers: int
) -> list[Any]:
    encode = partial(
        encode_batch,
        config=config,
        quantiles=data.quantiles,
        filler=data.filler,
        num_workers=num_workers,
        accumulation_steps=config.optim.count_accumulation_steps(num_workers),
    )
    context = DataContext.get_current().copy()
    context.target_max_block_size = 1  # byte: each micro-batch is a block, and leaves when made
    context.enable_progress_bars = False
    context.execution_options = ExecutionOptions(preserve_order=True)
    with DataContext.current(context):
        dataset = ray.data.read_datasource(
            WindowsDatasource(tasks, encode, data.read),
            override_num_blocks=len(tasks),
            concurrency=config.workers.readers,
            num_cpus=1,
        )
    # Not `equal`: that would cut blocks. The first of the emptiest workers gets the next block.
    return list(dataset.streaming_split(num_workers, equal=False))
