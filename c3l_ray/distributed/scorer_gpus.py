"""The GPUs that a scorer needs: its weights, and the memory of the GPUs that the cluster has."""

import logging
from functools import cache

import ray
import ray.exceptions

from c3l_ray.config import GeneratingConfig, RecordsConfig
from c3l_ray.distributed.gpu_shares import ENGINE_SHARE, SCORER_GPUS, SHARED_GPU, fit_scorer
from c3l_ray.errors import PreflightError
from c3l_ray.inference.weight_size import count_weight_bytes

SMALL = 2 * 2**30
"""Bytes of weights of which two copies fit on any GPU that is large enough for vLLM: none is
asked."""
ASK_TIMEOUT_S = 60

log = logging.getLogger(__name__)


def choose_scorer_gpus(config: RecordsConfig, *, may_grow: bool) -> float:
    """The GPUs of a scorer beside generators on a cluster with GPUs.

    Args:
        config: with its models pinned.
        may_grow: whether the cluster may start larger nodes than it has.

    Raises:
        PreflightError: no node has as many as its weights take.
    """
    weights = count_weight_bytes(config.scorer_name, config.scorer.revision, config.scorer.dtype)
    if weights is None or weights <= SMALL:
        return SCORER_GPUS
    card = _find_card_bytes()
    if card is None:
        return SCORER_GPUS
    gpus, node_gpus = fit_scorer(weights, card), _count_gpus_of_node()
    if gpus > node_gpus:
        problem = (
            f"--scorer.name {config.scorer_name}: its weights take {_format_gib(weights)}, which "
            f"is {gpus:g} GPUs of {_format_gib(card)}, and a node has {node_gpus}"
        )
        if not may_grow:
            raise PreflightError(
                f"{problem}; name a smaller model, or generate with --no-score where the job has it"
            )
        log.warning("%s now: waiting for larger nodes", problem)
    return gpus


def check_shared_gpu(config: GeneratingConfig) -> None:
    """Refuses an engine and a scorer that cannot lie on one GPU together, as the default has them.

    Raises:
        PreflightError: the scorer's weights are more than the engine leaves.
    """
    weights = count_weight_bytes(config.scorer_name, config.scorer.revision, config.scorer.dtype)
    if weights is None or weights <= SMALL or (card := _find_card_bytes()) is None:
        return
    share = config.model.gpu_memory or ENGINE_SHARE * SHARED_GPU[0]
    if weights > (1 - share) * card:
        raise PreflightError(
            f"--pools: the engine takes {share:.0%} of the {_format_gib(card)} of the GPU, and the "
            f"weights of the scorer {config.scorer_name} {_format_gib(weights)}, which is more "
            "than the rest: generate with --no-score and score with jobs.score then, name a "
            "smaller --scorer.name, or give the engine less with --model.gpu-memory"
        )


@cache
def _find_card_bytes() -> int | None:
    """The memory of a GPU of the cluster; None where none tells."""
    read = ray.remote(num_gpus=0.01, num_cpus=0, max_retries=0)(_read_card_bytes)
    try:
        return int(ray.get(read.remote(), timeout=ASK_TIMEOUT_S))
    except (ray.exceptions.RayError, TimeoutError):  # a GPU that is still to come is not asked
        return None


def _read_card_bytes() -> int:
    import torch

    return torch.cuda.get_device_properties(0).total_memory


def _count_gpus_of_node() -> int:
    """Of the node that has most of them."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    return int(max((node["Resources"].get("GPU", 0) for node in nodes), default=0))


def _format_gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"
