"""How the GPUs of a cluster are shared between generators and scorers, as arithmetic."""

import math
from dataclasses import dataclass

from c3l_ray.model_config import Pools

SCORER_GPUS = 0.5
"""Of a scorer beside generators: it waits for its CPU about half of the time (39 to 67 ms an image
of five turns, about what a large GPU needs for the pass), so two of them fill a GPU."""
SHARED_GPU = (0.7, 0.3)
"""Of the generator and the scorer on the only GPU: an engine's cache takes all that it is given,
a scorer needs its weights and one pass."""
ENGINE_SHARE = 0.9
"""Of what an engine is given of a GPU, what it takes of its memory by default."""
HELD_SHARE = 0.85
"""Of a GPU's memory, what weights may take: the rest is for a pass, CLIP and CUDA itself."""


@dataclass(frozen=True, kw_only=True)
class GpuShares:
    """The processes of each pool, and the GPUs of each of them."""

    generators: int
    scorers: int
    generator_gpus: float
    scorer_gpus: float

    @property
    def gpus(self) -> float:
        """Of all processes together."""
        return self.generators * self.generator_gpus + self.scorers * self.scorer_gpus


def fit_scorer(weight_bytes: int, card_bytes: int) -> float:
    """The GPUs of a scorer: half a one where two copies of its weights fit, or as many as hold it.

    Args:
        weight_bytes: of its weights, in its precision.
        card_bytes: the memory of a GPU.
    """
    held = HELD_SHARE * card_bytes
    return SCORER_GPUS if 2 * weight_bytes <= held else float(math.ceil(weight_bytes / held))


def choose_shares(
    num_gpus: int,
    num_cpus: int,
    pools: Pools,
    tensor_parallel: int,
    *,
    scores: bool = True,
    scorer_gpus: float = SCORER_GPUS,
) -> GpuShares:
    """What the user asked for, the rest chosen so that it fills the GPUs.

    As many generators as leave each of them the GPUs of a scorer, and as many scorers as the rest
    holds: with half a GPU for a scorer, five generators and six scorers on eight GPUs. Each process
    takes a CPU. GPUs that do not suffice are found by the caller.

    Args:
        num_gpus: of the cluster.
        num_cpus: of the cluster for these processes.
        pools: as asked for; what is None is chosen.
        tensor_parallel: GPUs of one engine.
        scores: whether there are scorers; without, generators take all.
        scorer_gpus: of a scorer, where the user has not said and it does not share the only GPU.
    """
    if not scores:
        return _share_between_generators(num_gpus, num_cpus, pools, tensor_parallel)
    alone = share_a_gpu(num_gpus, pools, tensor_parallel)
    generator, scorer = SHARED_GPU if alone else (float(tensor_parallel), scorer_gpus)
    if num_gpus == 0:
        generator, scorer = 0.0, 0.0
    generator = generator if pools.generator_gpus is None else pools.generator_gpus
    scorer = scorer if pools.scorer_gpus is None else pools.scorer_gpus
    generators, scorers = pools.generators, pools.scorers
    if generators is None:
        left = num_gpus - (0 if scorers is None else scorers * scorer)
        each = generator + (scorer if scorers is None else 0)
        fitting = _how_many(left, each)
        cpus = num_cpus // 2 if scorers is None else num_cpus - scorers
        generators = max(1, min(fitting, cpus)) if generator else 1
    if scorers is None:
        fitting = _how_many(num_gpus - generators * generator, scorer)
        scorers = max(1, min(fitting, num_cpus - generators)) if scorer else 1
    return GpuShares(
        generators=generators, scorers=scorers, generator_gpus=generator, scorer_gpus=scorer
    )


def share_a_gpu(num_gpus: int, pools: Pools, tensor_parallel: int) -> bool:
    """Whether one generator and one scorer have the only GPU between them."""
    return num_gpus == 1 == tensor_parallel == (pools.generators or 1) == (pools.scorers or 1)


def _share_between_generators(
    num_gpus: int, num_cpus: int, pools: Pools, tensor_parallel: int
) -> GpuShares:
    gpus = pools.generator_gpus
    if gpus is None:
        gpus = float(tensor_parallel) if num_gpus else 0.0
    fitting = max(1, min(_how_many(num_gpus, gpus), num_cpus)) if gpus else 1
    return GpuShares(
        generators=pools.generators or fitting, scorers=0, generator_gpus=gpus, scorer_gpus=0.0
    )


def _how_many(gpus: float, each: float) -> int:
    return math.floor(gpus / each + 1e-6) if each else 0
