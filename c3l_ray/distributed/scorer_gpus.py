"""The GPUs that a scorer needs: its weights, and the memory of the GPUs that the cluster has."""

import logging
from functools import cache

from c3l_ray.config import GeneratingConfig, RecordsConfig
from c3l_ray.distributed.devices import ask_gpu, count_gpus_of_largest_node
from c3l_ray.distributed.gpu_shares import ENGINE_SHARE, SCORER_GPUS, SHARED_GPU, fit_scorer
from c3l_ray.errors import PreflightError
from c3l_ray.inference.weight_size import count_weight_bytes

SMALL = 2 * 2**30
"""Bytes of weights of which two copies fit on any GPU that is large enough for vLLM: none is
asked."""
SHARE_TO_ASK = 0.01
"""Of a GPU, which the task takes that asks for its memory."""

log = logging.getLogger(__name__)


def choose_scorer_gpus(config: RecordsConfig, *, may_grow: bool) -> float:
    """The GPUs of a scorer beside generators on a cluster with GPUs.

    Args:
        config: with its models pinned.
        may_grow: whether the cluster may start larger nodes than it has.

    Raises:
        PreflightError: no node has as many as its weights take.
    """
    sizes = _find_sizes(config)
    if sizes is None:
        return SCORER_GPUS
    weights, card = sizes
    gpus, node_gpus = fit_scorer(weights, card), count_gpus_of_largest_node()
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
    sizes = _find_sizes(config)
    if sizes is None:
        return
    weights, card = sizes
    share = config.model.gpu_memory or ENGINE_SHARE * SHARED_GPU[0]
    if weights > (1 - share) * card:
        raise PreflightError(
            f"--pools: the engine takes {share:.0%} of the {_format_gib(card)} of the GPU, and the "
            f"weights of the scorer {config.scorer_name} {_format_gib(weights)}, which is more "
            "than the rest: generate with --no-score and score with jobs.score then, name a "
            "smaller --scorer.name, or give the engine less with --model.gpu-memory"
        )


def _find_sizes(config: RecordsConfig) -> tuple[int, int] | None:
    """Bytes of the scorer's weights and of a GPU; None where they are small, or nobody knows."""
    weights = count_weight_bytes(config.scorer_name, config.scorer.revision, config.scorer.dtype)
    if weights is None or weights <= SMALL or (card := _find_card_bytes()) is None:
        return None
    return weights, card


@cache
def _find_card_bytes() -> int | None:
    """The memory of a GPU of the cluster; None where none tells."""
    device = ask_gpu(SHARE_TO_ASK)
    return None if device is None else device.memory


def _format_gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"
