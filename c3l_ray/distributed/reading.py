"""The tasks that index, read and commit, and what becomes of a unit whose tasks die.

Ray begins a task again for ever when its process dies. The ledger bounds that: a unit that cannot
be read is failed rows, a shard that cannot be indexed is left to the next command, and a unit that
cannot be committed ends the job.
"""

import functools
import os
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from c3l_ray.distributed.cluster import find_log_files
from c3l_ray.distributed.ledger import Ledger
from c3l_ray.distributed.unit_steps import Surroundings, write_errors
from c3l_ray.errors import C3LError
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.read import fail_unit, index_shard, read_unit
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.schema import FATAL, STAGED_ROWS

MAX_TASK_DEATHS = 8
"""Processes that may die while they do the same task, before it is given up: a few lost nodes, or
kills where memory is short, say nothing of the unit."""


class UnitSource(Datasource):
    """One read task and one block per unit."""

    def __init__(self, units: list[Unit], layout: Layout, surroundings: Surroundings) -> None:
        super().__init__()
        self._units = units
        self._layout = layout
        self._surroundings = surroundings

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        return [
            ReadTask(
                functools.partial(read_block, unit, self._layout, self._surroundings),
                BlockMetadata(
                    num_rows=unit.rows,
                    size_bytes=unit.size,
                    input_files=[unit.path],
                    exec_stats=None,
                ),
            )
            for unit in self._units
        ]

    def estimate_inmemory_data_size(self) -> int:
        return sum(unit.size for unit in self._units)


def read_block(unit: Unit, layout: Layout, surroundings: Surroundings) -> list[pa.Table]:
    """A unit, or nothing where the job is to stop; what cannot be read of it is failed rows."""
    if surroundings.flag.is_up():
        return [STAGED_ROWS.empty_table()]
    failures: list[tuple[Unit, Exception]] = []
    ledger = _ledger_of("reading", surroundings.flag.key)
    deaths = ledger.begin(unit.name, unit.rows).deaths
    if deaths < MAX_TASK_DEATHS:
        table = read_unit(unit, layout, failures)
    else:
        table = fail_unit(unit, f"{FATAL}: {deaths} processes died while they read it")
    if failures:
        entries = [
            f"{failed.source}, rows {failed.start} to {failed.end}\n"
            + "".join(traceback.format_exception(error))
            for failed, error in failures
        ]
        write_errors(surroundings.folder, unit.name, "reading", entries)
    ledger.end(unit.name)
    return [table]


def try_to_index(shard: Shard, layout: Layout, key: str) -> list[Unit] | None:
    """The units of a shard; None where too many processes died while they indexed it.

    Args:
        shard: to be indexed.
        layout: of the input.
        key: of the job.
    """
    ledger = _ledger_of("reading", key)
    deaths = ledger.begin(shard.name, 0).deaths
    units = index_shard(shard, layout) if deaths < MAX_TASK_DEATHS else None
    ledger.end(shard.name)
    return units


def explain_unindexed(shards: Sequence[Shard]) -> C3LError:
    """The error to raise where processes died while they indexed these shards."""
    others = f" and {len(shards) - 1} other shards" if len(shards) > 1 else ""
    return C3LError(
        f"--input {shards[0].address}{others}: not indexed, since {MAX_TASK_DEATHS} processes died "
        f"while they did it; the log files of these are {find_log_files()}. Run the same command "
        "again to try it once more; where a file itself kills them, take it out of --input"
    )


def bound_deaths(work: Callable[[pa.Table], Any], stage: str, key: str, staged: pa.Table) -> Any:
    """What work makes of a block, which is a unit.

    Args:
        work: to do.
        stage: that does it, such as "committing".
        key: of the job.
        staged: the block.

    Raises:
        C3LError: too many processes died while they did it.
    """
    unit = staged["unit"][0].as_py()
    ledger = _ledger_of(stage, key)
    deaths = ledger.begin(unit, 0).deaths
    if deaths >= MAX_TASK_DEATHS:
        raise C3LError(
            f"unit {unit}: {deaths} {stage} processes died while they worked on it, as where a "
            f"node is out of memory; the log files of these are {find_log_files()}"
        )
    result = work(staged)
    ledger.end(unit)
    return result


def _ledger_of(stage: str, key: str) -> Ledger:
    return Ledger(f"{key}/{stage}", f"{stage} process {os.getpid()}")
