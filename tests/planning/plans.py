"""Counts, samples and plans with some of their figures given."""

import datetime
from typing import Any

from c3l_ray.config import GenerateConfig, Pools
from c3l_ray.planning.cost import Devices, Plan, make_plan
from c3l_ray.planning.estimates import Estimate
from c3l_ray.planning.input_count import InputCount
from c3l_ray.planning.sample_run import SampleRun

NOW = datetime.datetime(2030, 1, 1, 20, tzinfo=datetime.UTC)
ONE_GPU = Pools(generators=1, scorers=1, generator_gpus=1.0, scorer_gpus=0.5)
EIGHT_GPUS = Pools(generators=5, scorers=6, generator_gpus=1.0, scorer_gpus=0.5)


def make_count(**fields: Any) -> InputCount:
    defaults: dict[str, Any] = {
        "shards": 4,
        "counted_shards": 4,
        "bytes": 8_000_000,
        "images": Estimate(value=40_000.0),
        "units": Estimate(value=160.0),
    }
    return InputCount(**{**defaults, **fields})


def make_sample_run(**fields: Any) -> SampleRun:
    """Four images, of which a generator does one in 2 s and a scorer in 0.5 s."""
    defaults: dict[str, Any] = {
        "shards": ["a", "b", "c", "d"],
        "turns": [5, 5, 5, 5],
        "usable_turns": [5, 4, 5, 4],
        "tokens": [100, 140, 80, 80],
        "record_bytes": [1000.0, 2000.0, 1500.0, 1500.0],
        "run": 4,
        "generate_s": 8.0,
        "score_s": 2.0,
        "boot_s": 36.0,
        "pools": ONE_GPU,
    }
    return SampleRun(**{**defaults, **fields})


def plan_with(
    config: GenerateConfig,
    count: InputCount | None = None,
    sample: SampleRun | None = None,
    pools: Pools = ONE_GPU,
    devices: Devices | None = None,
    *,
    done_images: int = 0,
) -> Plan:
    return make_plan(
        config,
        count or make_count(),
        sample or make_sample_run(),
        pools,
        devices or Devices(kind="GPU", number=2, cores=8),
        done_images=done_images,
        now=NOW,
    )
