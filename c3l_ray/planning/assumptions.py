"""What a plan takes for granted, in sentences for the person who reads it."""

from collections.abc import Iterator

from c3l_ray.config import GenerateConfig, Pools
from c3l_ray.planning.input_count import InputCount
from c3l_ray.planning.sample_run import SampleRun
from c3l_ray.schema import TEXT_ONLY


def list_assumptions(
    config: GenerateConfig,
    count: InputCount,
    sample: SampleRun,
    pools: Pools,
    device: str,
    *,
    shares: bool,
) -> list[str]:
    """What a plan takes for granted beside its intervals, in whole sentences.

    Args:
        config: of the run.
        count: of its input.
        sample: what its images cost.
        pools: of the run, with all numbers decided.
        device: "GPU" or "node".
        shares: whether generators and scorers share devices.
    """
    return [
        *_of_input(config, count),
        *_of_sample(config, sample),
        *_of_processes(sample, pools, device, shares=shares),
        "The storage keeps up: the time of reading and of writing is not counted.",
    ]


def _of_input(config: GenerateConfig, count: InputCount) -> Iterator[str]:
    if not count.is_whole:
        yield (
            f"Images were counted in {count.counted_shards:,} of {count.shards:,} shards; the "
            "others hold as many for their bytes (--count-shards)."
        )
    if count.damaged_shards:
        yield (
            f"What stands after the damage in {count.damaged_shards:,} of {count.counted_shards:,} "
            "counted shards is no part of the plan, since a run cannot read it."
        )
    if config.limit is not None and config.limit < count.images.value:
        yield f"The first {config.limit:,} images (--limit) are like the others."


def _of_sample(config: GenerateConfig, sample: SampleRun) -> Iterator[str]:
    yield (
        f"An image's share of the sample's seconds goes by its tokens. The seconds were measured "
        f"once, on {sample.images:,} images: the intervals are of how images differ, not of how "
        "steady the machine is."
    )
    num_failed = sum(count for word, count in sample.reasons.items() if word != TEXT_ONLY)
    if num_failed > config.max_failed_share * sample.images:
        yield (
            f"{num_failed:,} of {sample.images:,} sampled images failed: a run of which so many do "
            f"ends with status 4 (--max-failed-share {config.max_failed_share:g})."
        )
    requests = sample.run * config.turns_per_image
    if requests < config.model.max_seqs:
        filling = -(-config.model.max_seqs // config.turns_per_image)
        yield (
            f"The sample gave the engine {requests:,} requests at once, and it takes "
            f"{config.model.max_seqs:,}. A full engine does more, so the run is rather faster than "
            f"the plan; --sample {filling:,} fills it."
        )


def _of_processes(sample: SampleRun, pools: Pools, device: str, *, shares: bool) -> Iterator[str]:
    measured = sample.pools
    if (pools.generators, pools.scorers) != (measured.generators, measured.scorers):
        yield (
            f"{pools.generators:,} generators and {pools.scorers:,} scorers do as many times the "
            "work of the sample's one and one: nothing slows them but each other's want of images."
        )
    if device == "GPU":
        yield "All GPUs of the run are like the one that ran the sample."
    for name in ("generator", "scorer"):
        mine, planned = getattr(measured, f"{name}_gpus"), getattr(pools, f"{name}_gpus")
        if mine != planned:
            yield (
                f"The sample's {name} had {mine:g} of a GPU, and those of the run have "
                f"{planned:g} each; both are taken to be as fast."
            )
    if shares:
        where = "a GPU" if device == "GPU" else "cores"
        yield f"A generator and a scorer share {where}, so that their seconds add up."
    else:
        yield "Generators and scorers work at the same time, and the slower pool sets the speed."
    yield (
        f"All processes start at once, in the {sample.boot_s:.0f} s that the sample's took, on "
        "nodes that are there and hold the models."
    )
