"""How long a command may work, and at what price; when that is over, it stops itself in order.

The hours count for one command, from its first second on: the same command goes on with as many
again. With `--budget-of run` they are those of all commands of an output together.
"""

import logging

from c3l_ray import stopping
from c3l_ray.config import RecordsConfig
from c3l_ray.model_config import Pools, ScorerPool
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.used_time import measure_earlier_commands

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

    With `--budget-of run` the time of earlier commands is taken from this one's, and from the hours
    that `hold_to_hours` gave it, as if they had had the same devices.

    Args:
        config: of the job, in whose output this command is noted.
        gpus: that its processes hold together; where it is 0 the cluster's nodes are paid for.

    Raises:
        RuntimeError, Stopped: as `hold_to_hours`.
    """
    used_s = 0.0
    if config.budget_of == "run":
        used_s = measure_earlier_commands(RunFolder.open(config.output))
        log.info("earlier commands have worked for %.3g hours of the budget", used_s / 3600)
    if config.max_hours is not None and used_s:
        flag = f"--max-hours {config.max_hours:g} --budget-of run"
        stopping.bound_time(3600 * config.max_hours - used_s, flag)
    if config.max_price is None or config.price_per_hour is None:
        return
    from c3l_ray.distributed import cluster

    kind, number = cluster.count_devices(gpus)
    hours = config.max_price / (config.price_per_hour * number)
    log.info(
        "--max-price %g is %.3g hours of %d %s at %g an hour each",
        *(config.max_price, hours, number, f"{kind}s", config.price_per_hour),
    )
    of_run = " --budget-of run" if used_s else ""
    stopping.bound_time(3600 * hours - used_s, f"--max-price {config.max_price:g}{of_run}")


def count_gpus(pools: ScorerPool) -> float:
    """The GPUs of pools whose sizes and shares are decided."""
    gpus = (pools.scorers or 1) * (pools.scorer_gpus or 0.0)
    if isinstance(pools, Pools):
        gpus += (pools.generators or 1) * (pools.generator_gpus or 0.0)
    return gpus
