"""A plan: what a run will cost, from a count of its input and what its sample cost.

Every figure that is no certainty is an `Interval` of 95 %, from the spread over the sampled images
and, where only some shards were counted, over these. What is assumed beside that is said in
sentences.
"""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from c3l_ray import __version__
from c3l_ray.config import GenerateConfig, Pools
from c3l_ray.errors import OverBudget
from c3l_ray.planning.assumptions import list_assumptions
from c3l_ray.planning.estimates import CONFIDENCE, Estimate, Interval, estimate_mean
from c3l_ray.planning.input_count import InputCount
from c3l_ray.planning.sample_run import SampleRun


@dataclass(frozen=True, kw_only=True)
class Devices:
    """What a run holds while it runs, and its user pays for.

    Attributes:
        kind: GPUs, or nodes of the cluster where the run uses no GPU.
        number: of them, whole ones.
        cores: CPU cores of all nodes together.
    """

    kind: Literal["GPU", "node"]
    number: int
    cores: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will cost.

    Attributes:
        input, output: of the run.
        shards, counted_shards: of the input, and those in which images were counted.
        damaged_shards: of the counted ones, that break off or cannot be read.
        damage: of one of these, and where.
        bytes: of all shards, as they are listed.
        images: of the input, or as many as the limit lets through.
        done_images: of them, that are committed in the output already.
        images_left: still to do; all figures below are of these.
        sampled_images: that were drawn and run to measure the others.
        sampled_failures: of them, by the first word of their error.
        turns, usable_turns: that the run will write.
        seconds: measured on the sample: `generate` and `score` of an image in one process each,
            and `boot`.
        images_per_s: of all processes together, without the boot.
        generators, scorers: processes of the run.
        device, devices: "GPU" or "node", and how many of them the run holds.
        hours: from its begin to its end, with the boot.
        device_hours: of all devices together.
        price_per_hour: of one device.
        price: of all of them; None where no price of an hour is given.
        output_bytes: of the files of records.
        files: that the run writes: of each unit its records and its manifest, of each shard its
            index, and run.json.
        begin, end: the latter if the run were begun now, at the former, in UTC.
        confidence: of the intervals.
        assumptions: what is taken for granted, a sentence each.
        over_budget: the bounds that the plan is over, a sentence's part each.
    """

    job: str = "plan"
    version: str = __version__
    input: list[str]
    output: str
    shards: int
    counted_shards: int
    damaged_shards: int
    damage: str | None
    bytes: int
    images: Interval
    done_images: int
    images_left: Interval
    sampled_images: int
    sampled_failures: dict[str, int]
    turns: Interval
    usable_turns: Interval
    seconds: dict[str, float]
    images_per_s: Interval
    generators: int
    scorers: int
    device: str
    devices: int
    hours: Interval
    device_hours: Interval
    price_per_hour: float | None
    price: Interval | None
    output_bytes: Interval
    files: Interval
    begin: str
    end: dict[str, str | None]
    confidence: float
    assumptions: list[str]
    over_budget: list[str] = field(default_factory=list)


def make_plan(
    config: GenerateConfig,
    count: InputCount,
    sample: SampleRun,
    pools: Pools,
    devices: Devices,
    *,
    done_images: int,
    now: datetime.datetime,
) -> Plan:
    """The plan of a run.

    The time of an image is its share of the sample's, by the tokens that were generated for it. N
    generators take an N-th of it, and so do scorers. Where both pools have devices of their own the
    slower one counts; where they share them their times add up.

    Args:
        config: of the run.
        count: of its input.
        sample: what its images cost.
        pools: of the run, with all numbers decided.
        devices: that these take.
        done_images: that are committed already.
        now: the time, with its zone.
    """
    assert pools.generators and pools.scorers and sample.generate_s > 0
    shards = None if count.is_whole else sample.shards

    def mean(values: list[Any]) -> Estimate:
        return estimate_mean(values, shards)

    generate_s, score_s = sample.generate_s / pools.generators, sample.score_s / pools.scorers
    shares = shares_devices(pools, devices)
    sample_s = generate_s + score_s if shares else max(generate_s, score_s)
    total_tokens = sum(sample.tokens)
    image_s = mean([sample_s * tokens / total_tokens for tokens in sample.tokens])
    images = count.images
    if config.limit is not None and config.limit < images.value:
        images = Estimate(value=config.limit)
    left = images.plus(-done_images)
    if left.value <= 0:
        left = Estimate(value=0.0)
    hours = left.times(image_s).plus(sample.boot_s if left.value else 0.0).times(1 / 3600)
    device_hours = hours.times(devices.number)
    price = None
    if config.price_per_hour is not None:
        price = device_hours.times(config.price_per_hour).interval()
    units = count.units.times(left.value / count.images.value)
    hours_interval = hours.interval(sample.boot_s / 3600 if left.value else 0.0)
    return Plan(
        input=list(config.input),
        output=config.output,
        shards=count.shards,
        counted_shards=count.counted_shards,
        damaged_shards=count.damaged_shards,
        damage=count.damage,
        bytes=count.bytes,
        images=images.interval(),
        done_images=done_images,
        images_left=left.interval(),
        sampled_images=sample.images,
        sampled_failures=sample.reasons,
        turns=left.times(mean(sample.turns)).interval(),
        usable_turns=left.times(mean(sample.usable_turns)).interval(),
        seconds={
            "generate": sample.generate_s / sample.images,
            "score": sample.score_s / sample.images,
            "boot": sample.boot_s,
        },
        images_per_s=image_s.interval().inverse(),
        generators=pools.generators,
        scorers=pools.scorers,
        device=devices.kind,
        devices=devices.number,
        hours=hours_interval,
        device_hours=device_hours.interval(),
        price_per_hour=config.price_per_hour,
        price=price,
        output_bytes=left.times(mean(sample.record_bytes)).interval(),
        files=units.times(2).plus(count.shards + 1).interval(),
        begin=now.isoformat(timespec="seconds"),
        end=_find_ends(hours_interval, now),
        confidence=CONFIDENCE,
        assumptions=list_assumptions(config, count, sample, pools, devices.kind, shares=shares),
        over_budget=list(_find_excesses(config, hours_interval, price)),
    )


def shares_devices(pools: Pools, devices: Devices) -> bool:
    """Whether a generator and a scorer work on the same GPU, or by turns on the same cores."""
    assert pools.generators and pools.scorers
    if pools.generator_gpus:
        return pools.generator_gpus < 1
    return devices.cores < pools.generators + pools.scorers


def check_budget(plan: Plan) -> None:
    """Refuses a plan that is over what the user allows.

    Raises:
        OverBudget: it is; whether the interval reaches over it does not matter.
    """
    if plan.over_budget:
        raise OverBudget(f"the plan is over budget: {'; '.join(plan.over_budget)}")


def _find_ends(hours: Interval, now: datetime.datetime) -> dict[str, str | None]:
    """The times at which a run of so many hours ends, in UTC; None where they are not known."""

    def end(hours: float | None) -> str | None:
        if hours is None:
            return None
        try:
            return (now + datetime.timedelta(hours=hours)).isoformat(timespec="seconds")
        except OverflowError:  # in thousands of years
            return None

    return {"value": end(hours.value), "low": end(hours.low), "high": end(hours.high)}


def _find_excesses(
    config: GenerateConfig, hours: Interval, price: Interval | None
) -> Iterator[str]:
    if config.max_hours is not None and hours.value > config.max_hours:
        yield f"{hours.value:.3g} hours, and --max-hours is {config.max_hours:g}"
    if config.max_price is not None and price is not None and price.value > config.max_price:
        yield f"a price of {price.value:.4g}, and --max-price is {config.max_price:g}"
