"""The main jobs as Ray Data: units -> Generate -> Score -> commit, one block a unit throughout.

Where the input has the turns, there is no Generate. The only file that builds a dataset. What Ray
does to blocks, and what is therefore set here and in `cluster`:

- Blocks are split while there are fewer than 200 read tasks, unless `override_num_blocks` is at
  most the number of units; and above about 128 MiB, unless `target_max_block_size` is None.
- `map_batches` refuses GPUs without a batch size, and a batch size mixes units; what it calls,
  `map_batches_internal`, takes both.
- An exception that leaves an actor ends the job. A dead engine therefore ends its process: Ray
  starts another and gives it the units again, within the bounds below.
"""

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset, Datasource, ReadTask
from ray.data.block import BlockMetadata

from c3l_ray.config import GenerateConfig, Layout, RecordsConfig
from c3l_ray.inputs import joins, read
from c3l_ray.distributed.cluster import MAX_RETRIES
from c3l_ray.runs.folder import Manifest, Output
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.errors import C3LError, EngineFailure
from c3l_ray.inference.turn_generator import Generate
from c3l_ray.inference.turn_scorer import Score
from c3l_ray.schema import replace_columns

UNITS_AT_ONCE = 4  # per generator: while one drains, the others keep its engine full


def plan(found: list[Shard], layout: Layout, output: Output) -> list[Unit]:
    """The units of these shards; those that no earlier run has indexed are indexed by the cluster.

    Raises:
        PreflightError: a shard has changed since an earlier run.
        C3LError: the output is not shared by the cluster's nodes.
    """
    with ThreadPoolExecutor(16) as readers:
        known = dict(zip(found, readers.map(output.known_units, found), strict=True))
        new = [shard for shard in found if known[shard] is None]
        if new:
            dataset = ray.data.from_items(
                [{"number": i} for i in range(len(new))], override_num_blocks=len(new)
            )

            def index(row: dict[str, int]) -> dict[str, int]:
                shard = new[row["number"]]
                output.note_units(shard, read.index(shard, layout))
                return row

            dataset.map(index, num_cpus=0.5).materialize()
            known |= dict(zip(new, readers.map(output.known_units, new), strict=True))
    units = []
    for shard in found:
        noted = known[shard]
        if noted is None:
            raise C3LError(
                f"--output {output.path}: what a worker wrote there is not there for this process; "
                "is it a folder that all nodes share?"
            )
        units += noted
    return joins.join(units, output)


def run(
    config: RecordsConfig,
    output: Output,
    units: list[Unit],
    origin: str,
    *,
    generate: type | None = Generate,
    score: type = Score,
) -> Iterator[Manifest]:
    """Generates, scores and commits the units, and yields their manifests as they come.

    Args:
        config: of the job, with its GPUs placed; a GenerateConfig where turns are generated.
        output: where the units are committed.
        units: those still to do.
        origin: what made their rows.
        generate: the generating actor's class, made from the config; None: the units have turns.
        score: the scoring actor's.

    Raises:
        ray.exceptions.RayError: the job cannot go on; what is committed stays.
    """
    for unit in units:
        if unit.rows == 0:  # an empty block never leaves the reader
            yield output.commit(unit.name, unit.source, None, origin)
    units = [unit for unit in units if unit.rows]
    if not units:
        return
    dataset = ray.data.read_datasource(Units(units, config.layout), override_num_blocks=len(units))
    if generate is not None:
        assert isinstance(config, GenerateConfig)
        dataset = _actors(
            dataset,
            GenerateInRay,
            [generate, config],
            size=config.pools.generators,
            num_gpus=config.pools.generator_gpus,
            at_once=UNITS_AT_ONCE,
        )
    pools = config.pools
    dataset = _actors(
        dataset, score, [config], size=pools.scorers, num_gpus=pools.scorer_gpus, at_once=1
    )
    dataset = _units(dataset, functools.partial(commit, config, output, origin), num_cpus=0.5)
    for row in dataset.iter_rows():
        yield Manifest(**json.loads(row["manifest"]))


class Units(Datasource):
    """One read task and one block per unit."""

    def __init__(self, units: list[Unit], layout: Layout) -> None:
        super().__init__()
        self._units = units
        self._layout = layout

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        return [
            ReadTask(
                functools.partial(_read, unit, self._layout),
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


class GenerateInRay:
    """A generating actor in a process that ends when its engine does."""

    def __init__(self, generate: type, config: GenerateConfig) -> None:
        self.generate = generate(config)

    async def __call__(self, table: pa.Table) -> pa.Table:
        try:
            return await self.generate(table)
        except EngineFailure as error:
            print(f"the engine died, and its process ends: {error}", file=sys.stderr, flush=True)
            os._exit(1)


def _read(unit: Unit, layout: Layout) -> list[pa.Table]:
    return [read.read(unit, layout)]


def commit(
    config: RecordsConfig, output: Output, origin: str, table: pa.Table
) -> dict[str, list[Any]]:
    """Commits a block, which must be exactly one unit."""
    units = set(zip(*(table[name].to_pylist() for name in ("unit", "unit_rows")), strict=True))
    unit, rows = min(units)
    if len(units) != 1 or table.num_rows != rows:
        raise AssertionError(
            f"a block of {table.num_rows} rows came to the writer, from units {sorted(units)}"
        )
    if not config.images:
        table = replace_columns(table, image=[None] * table.num_rows)
    manifest = output.commit(unit, table["source"][0].as_py(), table, origin)
    return {"manifest": [json.dumps(dataclasses.asdict(manifest))]}


def _actors(
    dataset: Dataset,
    actor: type,
    args: list[Any],
    *,
    size: int,
    num_gpus: float | None,
    at_once: int,
) -> Dataset:
    """Maps units through a pool of actors, each given `at_once` units and one more in wait."""
    pool = ActorPoolStrategy(
        size=size,
        max_tasks_in_flight_per_actor=at_once + 1,
        max_concurrent_calls_per_actor=at_once,
    )
    return _units(
        dataset,
        actor,
        compute=pool,
        fn_constructor_args=args,
        num_cpus=1,
        **({"num_gpus": num_gpus} if num_gpus else {}),
        max_restarts=-1,  # the retries of a unit that kills its process are what is bounded
        max_task_retries=MAX_RETRIES,
    )


def _units(dataset: Dataset, stage: Callable[..., Any] | type, **options: Any) -> Dataset:
    return dataset.map_batches_internal(
        stage, batch_size=None, batch_format="pyarrow", zero_copy_batch=True, **options
    )
