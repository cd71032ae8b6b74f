"""How long a command may work, and at what price; when that is over, it stops itself in order.

The hours count for one command, from its first second on: the same command goes on with as many
again.
"""

import logging

from c3l_ray import stopping
from c3l_ray.config import Pools, RecordsConfig, ScorerPool

log = logging.getLogger(__name__)


def hold_to_hours(config: RecordsConfig) -> None:
    """Stops this process, as SIGTERM does, once it has worked for --max-hours.

    Raises:
        RuntimeError: the process handles no signals (`stopping.handled`).
        Stopped: it has worked for longer.
    """
    if config.max_hours is not None:
        stopping.bound_time(3600 * config.max_hours, f"--max-hours {config.max_hours:g}")


def hold_to_price(config: RecordsConfig, gpus: float) -> None:
    """Stops this process likewise once its devices have cost --max-price since it began.

    Args:
        config: of the job.
        gpus: that its processes hold together; where it is 0 the cluster's nodes are paid for.

    Raises:
        RuntimeError, Stopped: as `hold_to_hours`.
    """
    if config.max_price is None or config.price_per_hour is None:
        return
    from c3l_ray.distributed import cluster

    kind, number = cluster.count_devices(gpus)
    hours = config.max_price / (config.price_per_hour * number)
    log.info(
        "--max-price %g is %.3g hours of %d %s at %g an hour each",
        *(config.max_price, hours, number, f"{kind}s", config.price_per_hour),
    )
    stopping.bound_time(3600 * hours, f"--max-price {config.max_price:g}")


def count_gpus(pools: ScorerPool) -> float:
    """The GPUs of pools whose sizes and shares are decided."""
    gpus = (pools.scorers or 1) * (pools.scorer_gpus or 0.0)
    if isinstance(pools, Pools):
        gpus += (pools.generators or 1) * (pools.generator_gpus or 0.0)
    return gpus
