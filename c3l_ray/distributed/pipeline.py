"""Jobs that write records as Ray Data: units -> generate -> score -> commit, a block for each unit.

Where the input has the turns, nothing is generated. The only file that builds a dataset of images.
What Ray does to blocks, and what is therefore set here and in `cluster`:

- Blocks are split while there are fewer than 200 read tasks, unless `override_num_blocks` is at
  most the number of units; and above about 128 MiB, unless `target_max_block_size` is None.
- `map_batches` refuses GPUs without a batch size, and a batch size mixes units; what it calls,
  `map_batches_internal`, takes both.
- Tasks that read and commit run in processes of their own. This module imports no model library, so
  that they start in a second and stay small; the actors import what they need.
- Actors of a pool that die while they start are counted for the pool as a whole
  (`max_consecutive_actor_init_deaths`), however large it is.
- An exception that leaves a task or an actor ends the job: of the storage, or of our own kind. What
  `unit_steps` and `reading` make of any other one, and of a process that dies, is failed rows.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from c3l_ray.config import GeneratingConfig, RecordsConfig
from c3l_ray.distributed.processes import (
    UNITS_PER_GENERATOR,
    GeneratorProcess,
    ScorerProcess,
)
from c3l_ray.distributed.reading import (
    UnitSource,
    bound_deaths,
    explain_unindexed,
    try_to_index,
)
from c3l_ray.distributed.stop_flag import StopFlag
from c3l_ray.distributed.unit_steps import Surroundings
from c3l_ray.errors import C3LError
from c3l_ray.inputs.index import read_units, write_units
from c3l_ray.inputs.joins import join_small_units
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.runs.commit import Manifest, commit_unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.retry import Retry, heal_unit, take_failed
from c3l_ray.runs.state import PROGRESS, TERMINAL_EVERY_S
from c3l_ray.schema import replace_columns

MIN_START_DEATHS = 3
"""Actors of a pool that may die in a row while they start, whatever the pool's size."""

log = logging.getLogger(__name__)


def plan_units(
    shards: list[Shard],
    layout: Layout,
    folder: RunFolder,
    unindexed: list[Shard] | None = None,
) -> list[Unit]:
    """The units of these shards; those that no earlier run has indexed are indexed by the cluster.

    Args:
        shards: of the input.
        layout: where an image is found in its file.
        folder: of the run.
        unindexed: takes the shards that killed the processes which indexed them. They have no
            units, and the next command tries them again.

    Raises:
        PreflightError: a shard has changed since an earlier run.
        C3LError: the output is not shared by the cluster's nodes, or a shard killed the processes
            which indexed it and there is no list for it.
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
                units = try_to_index(shard, layout, key)
                if units is not None:
                    write_units(folder, shard, units)
                return {**row, "is_indexed": int(units is not None)}

            num_shards, last_line_s = len(new_shards), time.monotonic()
            log.info("indexing %d shards", num_shards)
            given_up = []
            for done, row in enumerate(dataset.map(index, num_cpus=0.5).iter_rows(), start=1):
                if not row["is_indexed"]:
                    given_up.append(new_shards[row["number"]])
                if time.monotonic() - last_line_s >= TERMINAL_EVERY_S:
                    last_line_s = time.monotonic()
                    log.info("indexed %d of %d shards", done, num_shards, extra=PROGRESS)
            units_of |= dict(zip(new_shards, readers.map(read_known, new_shards), strict=True))
            for shard in given_up:
                if unindexed is None:
                    raise explain_unindexed(given_up)
                log.warning("%s: not indexed, since it killed its processes", shard.address)
                units_of[shard] = []
                unindexed.append(shard)
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
    num_generators = min(getattr(config.pools, "generators", None) or 1, len(units))
    num_scorers = min(config.pools.scorers or 1, len(units))
    allow_start_deaths(max(num_generators, num_scorers))  # before the data set, which copies it
    dataset = ray.data.read_datasource(
        UnitSource(units, config.layout, surroundings), override_num_blocks=len(units)
    )

    def bounded(work: Callable[[pa.Table], Any], stage: str) -> Callable[[pa.Table], Any]:
        return functools.partial(bound_deaths, work, stage, surroundings.flag.key)

    if retry is not None:
        dataset = _map_units(
            dataset,
            bounded(functools.partial(take_block, folder, retry), "rereading"),
            num_cpus=0.5,
        )
    if generates:
        assert isinstance(config, GeneratingConfig)
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
    dataset = _map_units(dataset, bounded(commit, "committing"), num_cpus=0.5)
    for row in dataset.iter_rows():
        yield Manifest.from_json(row["manifest"])


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


def allow_start_deaths(size: int) -> None:
    """Sets how many actors of a pool of this size may die in a row while they start.

    Ray counts those of the whole pool, and a node that is lost takes all that start on it.
    """
    context = DataContext.get_current()
    context.max_consecutive_actor_init_deaths = max(MIN_START_DEATHS, 2 * size)


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
