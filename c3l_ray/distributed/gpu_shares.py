"""How the GPUs of a cluster are shared between generators and scorers, as arithmetic."""

import math
from dataclasses import dataclass

from c3l_ray.config import Pools

SCORER_GPUS = 0.5
"""Of a scorer beside generators: it waits for its CPU about half of the time (39 to 67 ms an image
of five turns, about what a large GPU needs for the pass), so two of them fill a GPU."""
SHARED_GPU = (0.7, 0.3)
"""Of the generator and the scorer on the only GPU: an engine's cache takes all that it is given,
a scorer needs its weights and one pass."""


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


def choose_shares(num_gpus: int, num_cpus: int, pools: Pools, tensor_parallel: int) -> GpuShares:
    """What the user asked for, the rest chosen so that it fills the GPUs.

    As many generators as leave each of them half a GPU for a scorer, and as many scorers as the
    rest holds: on eight GPUs five generators and six scorers. Each process takes a CPU. GPUs that
    do not suffice are found by the caller.

    Args:
        num_gpus: of the cluster.
        num_cpus: of the cluster for these processes.
        pools: as asked for; what is None is chosen.
        tensor_parallel: GPUs of one engine.
    """
    alone = num_gpus == 1 == tensor_parallel == (pools.generators or 1) == (pools.scorers or 1)
    generator, scorer = SHARED_GPU if alone else (float(tensor_parallel), SCORER_GPUS)
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


def _how_many(gpus: float, each: float) -> int:
    return math.floor(gpus / each + 1e-6) if each else 0
