"""What the cluster has, and the refusals and warnings of what it has not."""

import logging
import math
import os

import ray

from c3l_ray.errors import PreflightError

log = logging.getLogger(__name__)


def cluster_address() -> str:
    """Of the cluster to join; "local" where one is to be started on this machine."""
    return os.environ.get("RAY_ADDRESS", "local")


def may_grow() -> bool:
    """Whether nodes may start that the cluster does not have."""
    return cluster_address() != "local"


def count_gpus() -> int:
    """The GPUs of the cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


def spare_cpus() -> int:
    """The CPUs of the cluster for actors, one each, with two left for reading and writing."""
    return int(ray.cluster_resources().get("CPU", 0)) - 2


def warn_idle_gpus(num_gpus: int, used: float, advice: str) -> None:
    """Says how many GPUs nobody uses.

    Args:
        num_gpus: of the cluster.
        used: of them.
        advice: which flags fill them, with the verb.
    """
    idle = math.floor(num_gpus - used + 1e-6)
    if idle >= 1:
        log.warning("%d of %d GPUs stay idle; %s them", idle, num_gpus, advice)


def refuse_missing_gpus(group: str, actors: dict[str, tuple[int, str, float]]) -> None:
    """Refuses actors for whose GPUs Ray would wait for ever; says so where it waits for nodes.

    Args:
        group: of the flags.
        actors: by their name: how many, the flag of the GPUs of each, and their number.
    """
    for _, flag, gpus in actors.values():
        if gpus > 1 and gpus != int(gpus):
            raise PreflightError(f"--{group}.{flag} {gpus:g}: must be at most 1, or a whole number")
    available = ray.cluster_resources().get("GPU", 0)
    needed = sum(size * gpus for size, _, gpus in actors.values())
    if needed <= available:
        return
    pools = " and ".join(f"{size} {name} with {gpus:g}" for name, (size, _, gpus) in actors.items())
    need = f"{pools} GPUs each need {needed:g} GPUs, and"
    if not may_grow():  # a cluster may start nodes when they are asked for
        way_out = ""
        size, _, gpus = actors.get("generators", (0, "", 0.0))
        if 0 < size * gpus <= available:
            way_out = "; jobs.generate --no-score takes no scorers, and jobs.score scores then"
        raise PreflightError(f"--{group}: {need} this machine has {available:g}{way_out}")
    log.warning("%s the cluster has %g now: waiting for nodes", need, available)


def warn_no_gpu(flags: str) -> None:
    """Says that a cluster without a GPU is asked for none."""
    log.warning(
        "the cluster has no GPU now, so this job asks for none; to have it start GPU nodes, set %s",
        flags,
    )
