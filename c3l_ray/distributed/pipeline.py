"""Jobs that write records as Ray Data: units -> generate -> score -> commit, a block for each unit.

Where the input has the turns, nothing is generated. The only file that builds a dataset of images.
What Ray does to blocks, and what is therefore set here and in `cluster`:

- Blocks are split while there are fewer than 200 read tasks, unless `override_num_blocks` is at
  most the number of units; and above about 128 MiB, unless `target_max_block_size` is None.
- `map_batches` refuses GPUs without a batch size, and a batch size mixes units; what it calls,
  `map_batches_internal`, takes both.
- Tasks that read and commit run in processes of their own. This module imports no model library, so
  that they start in a second and stay small; the actors import what they need.
- An exception that leaves a task or an actor ends the job: of the storage, or of our own kind. What
  `unit_steps` and `_read_block` make of any other one, and of a process that dies, is failed rows.
"""

import functools
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset, Datasource, ReadTask
from ray.data.block import BlockMetadata

from c3l_ray.config import GeneratingConfig, RecordsConfig
from c3l_ray.distributed.ledger import Ledger
from c3l_ray.distributed.processes import (
    UNITS_PER_GENERATOR,
    GeneratorProcess,
    ScorerProcess,
)
from c3l_ray.distributed.stop_flag import StopFlag
from c3l_ray.distributed.unit_steps import Surroundings, write_errors
from c3l_ray.errors import C3LError
from c3l_ray.inputs.index import read_units, write_units
from c3l_ray.inputs.joins import join_small_units
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.read import damaged_unit, fail_unit, index_shard, read_unit
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.runs.commit import Manifest, commit_unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.retry import Retry, heal_unit, take_failed
from c3l_ray.runs.state import PROGRESS, TERMINAL_EVERY_S
from c3l_ray.schema import FATAL, STAGED_ROWS, replace_columns

MAX_READ_DEATHS = 2
"""Processes that may die while they read a unit or index a shard, before it is given up."""

log = logging.getLogger(__name__)


def plan_units(shards: list[Shard], layout: Layout, folder: RunFolder) -> list[Unit]:
    """The units of these shards; those that no earlier run has indexed are indexed by the cluster.

    Raises:
        PreflightError: a shard has changed since an earlier run.
        C3LError: the output is not shared by the cluster's nodes.
    """
    read_known = functools.partial(read_units, folder)
    with ThreadPoolExecutor(16) as readers:
        units_of = dict(zip(shards, readers.map(read_known, shards), strict=True))
        new_shards = [shard for shard in shards if units_of[shard] is None]
        if new_shards:
            numbers = [{"number": number} for number in range(len(new_shards))]
            dataset = ray.data.from_items(numbers, override_num_blocks=len(new_shards))

            key = StopFlag().key

            def index(row: dict[str, int]) -> dict[str, int]:
                shard = new_shards[row["number"]]
                write_units(folder, shard, _index_shard(shard, layout, key))
                return row

            num_shards, last_line_s = len(new_shards), time.monotonic()
            log.info("indexing %d shards", num_shards)
            for done, _ in enumerate(dataset.map(index, num_cpus=0.5).iter_rows(), start=1):
                if time.monotonic() - last_line_s >= TERMINAL_EVERY_S:
                    last_line_s = time.monotonic()
                    log.info("indexed %d of %d shards", done, num_shards, extra=PROGRESS)
            units_of |= dict(zip(new_shards, readers.map(read_known, new_shards), strict=True))
    units = []
    for shard in shards:
        units_of_shard = units_of[shard]
        if units_of_shard is None:
            raise C3LError(
                f"--output {folder.path}: files written by workers are not visible here; use S3 or "
                "a folder mounted on every node"
            )
        units += units_of_shard
    return join_small_units(units, folder)


def process_units(
    config: RecordsConfig,
    folder: RunFolder,
    units: list[Unit],
    origin: str,
    *,
    generates: bool,
    generator: type | None = None,
    scorer: type | None = None,
    retry: Retry | None = None,
    flag: StopFlag | None = None,
) -> Iterator[Manifest]:
    """Generates, scores and commits the units, and yields their manifests as they come.

    Units that are not begun when the flag is put up are left out.

    Args:
        config: of the job, with its GPU shares decided; a GeneratingConfig where it generates.
        folder: where the units are committed.
        units: those still to do.
        origin: of their rows.
        generates: whether turns are generated, or answers to the turns that the units have.
        generator: the generating actor's class, made from the config, if not the job's.
        scorer: the scoring actor's class, made from the config, if not TurnScorer.
        retry: of these units, which are committed, where only failed rows are to be done.
        flag: that stops the job.

    Raises:
        ray.exceptions.RayError: the job cannot go on; what is committed stays.
    """
    for unit in units:
        if unit.rows == 0:  # an empty block never leaves the reader
            yield commit_unit(folder, unit.name, unit.source, None, origin)
    units = [unit for unit in units if unit.rows]
    if not units:
        return
    surroundings = Surroundings(folder, flag or StopFlag())
    dataset = ray.data.read_datasource(
        UnitSource(units, config.layout, surroundings), override_num_blocks=len(units)
    )
    if retry is not None:
        dataset = _map_units(dataset, functools.partial(take_block, folder, retry), num_cpus=0.5)
    if generates:
        assert isinstance(config, GeneratingConfig)
        num_generators = min(config.pools.generators or 1, len(units))
        log.info("starting generators: %d", num_generators)
        dataset = _map_through_actors(
            dataset,
            GeneratorProcess,
            [generator, config, surroundings],
            size=num_generators,
            num_gpus=config.pools.generator_gpus,
            units_at_once=UNITS_PER_GENERATOR,
        )
    if config.is_scored:
        num_scorers = min(config.pools.scorers or 1, len(units))
        log.info("starting scorers: %d", num_scorers)
        dataset = _map_through_actors(
            dataset,
            ScorerProcess,
            [scorer, config, surroundings, generates],
            size=num_scorers,
            num_gpus=config.pools.scorer_gpus,
            units_at_once=1,
        )
    commit = functools.partial(commit_block, config.keep_images, folder, origin, retry=retry)
    dataset = _map_units(dataset, commit, num_cpus=0.5)
    for row in dataset.iter_rows():
        yield Manifest.from_json(row["manifest"])


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
                functools.partial(_read_block, unit, self._layout, self._surroundings),
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


def _read_block(unit: Unit, layout: Layout, surroundings: Surroundings) -> list[pa.Table]:
    """A unit, or nothing where the job is to stop; what cannot be read of it is failed rows."""
    if surroundings.flag.is_up():
        return [STAGED_ROWS.empty_table()]
    failures: list[tuple[Unit, Exception]] = []
    ledger = _reading_ledger(surroundings.flag.key)
    deaths = ledger.begin(unit.name, unit.rows).deaths
    if deaths < MAX_READ_DEATHS:
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


def _index_shard(shard: Shard, layout: Layout, key: str) -> list[Unit]:
    """The units of a shard; one that kills its process is a damage."""
    ledger = _reading_ledger(key)
    deaths = ledger.begin(shard.name, 0).deaths
    if deaths < MAX_READ_DEATHS:
        units = index_shard(shard, layout)
    else:
        units = [damaged_unit(shard, f"its begin: {deaths} processes died while they read it")]
    ledger.end(shard.name)
    return units


def _reading_ledger(key: str) -> Ledger:
    return Ledger(f"{key}/reading", f"reading process {os.getpid()}")


def take_block(folder: RunFolder, retry: Retry, staged: pa.Table) -> pa.Table:
    """The rows of a block, which is a unit, that are done again."""
    manifest = retry.manifests[staged["unit"][0].as_py()]
    return take_failed(folder, manifest, retry.reasons, staged)


def commit_block(
    keep_images: bool,
    folder: RunFolder,
    origin: str,
    staged: pa.Table,
    *,
    retry: Retry | None = None,
) -> dict[str, list[Any]]:
    """Commits a block, which must be exactly one unit, or of a retry the rows of one."""
    units = set(zip(*(staged[name].to_pylist() for name in ("unit", "unit_rows")), strict=True))
    unit, num_rows = min(units)
    if len(units) != 1 or staged.num_rows != num_rows:
        raise AssertionError(
            f"a block of {staged.num_rows} rows came to the writer, from units {sorted(units)}"
        )
    if not keep_images:
        staged = replace_columns(staged, image=[None] * staged.num_rows)
    if retry is None:
        manifest = commit_unit(folder, unit, staged["source"][0].as_py(), staged, origin)
    else:
        manifest = heal_unit(folder, retry.manifests[unit], retry.reasons, staged)
    return {"manifest": [manifest.to_json()]}


def _map_through_actors(
    dataset: Dataset,
    actor: type,
    args: list[Any],
    *,
    size: int,
    num_gpus: float | None,
    units_at_once: int,
) -> Dataset:
    """Maps units through a pool of actors, each with `units_at_once` and one more waiting."""
    pool = ActorPoolStrategy(
        size=size,
        max_tasks_in_flight_per_actor=units_at_once + 1,
        max_concurrent_calls_per_actor=units_at_once,
    )
    return _map_units(
        dataset,
        actor,
        compute=pool,
        fn_constructor_args=args,
        num_cpus=1,
        **({"num_gpus": num_gpus} if num_gpus else {}),
        max_restarts=-1,  # the ledger bounds the deaths of a process and on a unit
        max_task_retries=-1,
    )


def _map_units(dataset: Dataset, stage: Callable[..., Any] | type, **options: Any) -> Dataset:
    return dataset.map_batches_internal(
        stage, batch_size=None, batch_format="pyarrow", zero_copy_batch=True, **options
    )
