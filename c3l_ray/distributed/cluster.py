"""The Ray cluster a job runs on: joining it, its settings, and the GPUs each actor is given."""

import contextlib
import dataclasses
import logging
import math
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

import ray
from ray.data import DataContext
from ray.exceptions import AuthenticationError

from c3l_ray import stopping
from c3l_ray.config import GeneratingConfig, RecordsConfig, ScoreConfig
from c3l_ray.distributed.gpu_shares import (
    ENGINE_SHARE,
    SCORER_GPUS,
    GpuShares,
    choose_shares,
    share_a_gpu,
)
from c3l_ray.distributed.resources import (
    cluster_address,
    count_gpus,
    may_grow,
    refuse_missing_gpus,
    spare_cpus,
    warn_idle_gpus,
    warn_no_gpu,
)
from c3l_ray.distributed.scorer_gpus import check_shared_gpu, choose_scorer_gpus
from c3l_ray.errors import C3LError, PreflightError, Stopped
from c3l_ray.model_config import Pools

Generating = TypeVar("Generating", bound=GeneratingConfig)

VERSION_MISMATCH = "Version mismatch"  # what Ray says of a cluster of another Ray or Python
CORE_LOGGING = b" logging.cc:"  # the file of Ray's core that a line was logged by

log = logging.getLogger(__name__)


def connect(num_actors: int, *, verbose: bool = False) -> None:
    """Joins the cluster that RAY_ADDRESS names, or starts one on this machine for these actors.

    A process that has joined one stays in it, so the first job of several must be the largest.

    Args:
        num_actors: that the job needs at once.
        verbose: whether Ray's own progress bars and messages are shown.

    Raises:
        PreflightError: the cluster at RAY_ADDRESS cannot be joined by us, or is no address.
        C3LError: no cluster answers at RAY_ADDRESS, or Ray does not start on this machine.
    """
    if ray.is_initialized():
        return
    if not verbose:
        # Ray's own messages would bury those of the job; its log files keep them.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        logging.getLogger("ray").setLevel(logging.ERROR)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
    address = cluster_address()
    # A local cluster counts CPUs and does not bind them: it needs more than the actors take, or
    # none is left for reading and writing.
    size = {"num_cpus": max(num_actors + 2, os.cpu_count() or 1)} if address == "local" else {}
    # Ray would start an idle worker for each of these CPUs.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    log.info("starting Ray" if address == "local" else "joining the cluster at RAY_ADDRESS")
    try:
        # Ray's own handler of SIGTERM aborts with a native trace.
        with stopping.kept(), contextlib.nullcontext() if verbose else _hide_core_messages():
            ray.init(
                address=address,
                include_dashboard=False,
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.ERROR,
                **size,
            )
    except SystemExit as end:  # Ray's handler of SIGTERM, while Ray starts
        raise Stopped(signal.SIGTERM) from end
    except Exception as error:  # Ray raises that itself where a node does not start in time
        if address == "local":
            raise C3LError(
                f"Ray did not start on this machine: {error}. Run the same command again"
            ) from error
        if isinstance(error, ValueError | AuthenticationError) or VERSION_MISMATCH in str(error):
            raise PreflightError(f"RAY_ADDRESS {address}: cannot be joined: {error}") from error
        raise C3LError(
            f"RAY_ADDRESS {address}: no cluster answers there: {error}. Run the same command again "
            "once it does, or correct the address"
        ) from error
    configure_ray_data(progress_bars=verbose)


@contextlib.contextmanager
def _hide_core_messages() -> Iterator[None]:
    """Keeps back what Ray's core says of its own logging, on this process's very stderr."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            for line in caught:
                if CORE_LOGGING not in line:
                    os.write(2, line)


def find_log_files() -> str:
    """The pattern of Ray's log files, one for each process, on the node that it ran on."""
    session = ray.get_runtime_context().get_session_name()
    return os.path.join(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", session, "logs", "worker-*")


def configure_ray_data(*, progress_bars: bool = False) -> None:
    """The settings under which a unit stays one block, and a slow start is no failure."""
    context = DataContext.get_current()
    context.target_max_block_size = None
    context.execution_no_progress_timeout_s = -1  # a model that loads slowly is not a fault
    context.enable_progress_bars = progress_bars
    context.enable_rich_progress_bars = True
    context.use_ray_tqdm = False


def count_actors(config: RecordsConfig) -> int:
    """The actors of pools, as far as the user has said how many; one each of the others."""
    pools = config.pools
    generators = (pools.generators or 1) if isinstance(pools, Pools) else 0
    return generators + ((pools.scorers or 1) if config.is_scored else 0)


def with_gpu_shares(config: Generating) -> Generating:
    """The config with the sizes of its pools and every GPU share decided that the user left open.

    Raises:
        PreflightError: Ray would wait for ever for the GPUs of a pool.
    """
    num_gpus = count_gpus()
    shares = choose_pools(config)
    if num_gpus == 0 and may_grow() and config.pools.generator_gpus is None:
        warn_no_gpu("--pools.generator-gpus and --pools.scorer-gpus")
    _check_shares(shares, config)
    flags = "--pools.generators and --pools.scorers" if config.is_scored else "--pools.generators"
    warn_idle_gpus(num_gpus, shares.gpus, f"{flags} fill")
    return _apply(shares, config)


def choose_pools(config: GeneratingConfig) -> GpuShares:
    """The processes of a job and their GPUs, whether or not the cluster has as many now.

    Raises:
        PreflightError: no GPU, or no node, holds the scorer.
    """
    num_gpus, tensor_parallel = count_gpus(), config.model.tensor_parallel
    chooses_scorer = num_gpus and config.is_scored and config.pools.scorer_gpus is None
    scorer_gpus = SCORER_GPUS
    if chooses_scorer and not share_a_gpu(num_gpus, config.pools, tensor_parallel):
        scorer_gpus = choose_scorer_gpus(config, may_grow=may_grow())
    elif chooses_scorer and config.pools.generator_gpus is None:
        check_shared_gpu(config)
    return choose_shares(
        *(num_gpus, spare_cpus(), config.pools, tensor_parallel),
        scores=config.is_scored,
        scorer_gpus=scorer_gpus,
    )


def with_one_of_each(config: Generating) -> Generating:
    """The config of one generator and one scorer, with the GPUs that a job's have, or that fit.

    Raises:
        PreflightError: as in `with_gpu_shares`.
    """
    alone = dataclasses.replace(choose_pools(config), generators=1, scorers=1)
    if alone.gpus > count_gpus():  # as where a larger cluster is asked for than there is
        pools = dataclasses.replace(config.pools, generators=1, scorers=1)
        alone = choose_pools(dataclasses.replace(config, pools=pools))
    _check_shares(alone, config)
    return _apply(alone, config)


def count_devices(gpus: float) -> tuple[Literal["GPU", "node"], int]:
    """What processes with so many GPUs in all hold, and somebody pays for.

    Returns:
        "GPU" and how many whole ones these are; "node" and those of the cluster where it is none.
    """
    if gpus:
        return "GPU", math.ceil(gpus - 1e-6)
    return "node", sum(bool(node["Alive"]) for node in ray.nodes())


def count_cores() -> int:
    """CPU cores of the nodes; a cluster on this machine is told of more than there are."""
    if not may_grow():
        return os.cpu_count() or 1
    return int(ray.cluster_resources().get("CPU", 0))


def _check_shares(shares: GpuShares, config: GeneratingConfig) -> None:
    """Refuses shares that an engine cannot have, or that Ray would wait for for ever."""
    _refuse_small_share(shares.generator_gpus, config.model.tensor_parallel)
    actors = {"generators": (shares.generators, "generator-gpus", shares.generator_gpus)}
    if config.is_scored:
        actors["scorers"] = (shares.scorers, "scorer-gpus", shares.scorer_gpus)
    refuse_missing_gpus("pools", actors)


def _apply(shares: GpuShares, config: Generating) -> Generating:
    decided: dict[str, Any] = dataclasses.asdict(shares)
    if not config.is_scored:
        del decided["scorers"], decided["scorer_gpus"]
    memory = config.model.gpu_memory or ENGINE_SHARE * min(1.0, shares.generator_gpus or 1.0)
    return dataclasses.replace(
        config,
        pools=dataclasses.replace(config.pools, **decided),
        model=dataclasses.replace(config.model, gpu_memory=memory),
    )


def with_scorer_gpus(config: ScoreConfig) -> ScoreConfig:
    """The config with its scorers and their GPUs decided, where nothing is generated.

    Each has one, or as many as hold its weights.

    Raises:
        PreflightError: as in `with_gpu_shares`.
    """
    pools = config.pools
    num_gpus = count_gpus()
    gpus = pools.scorer_gpus
    if gpus is None:
        gpus = max(1, choose_scorer_gpus(config, may_grow=may_grow())) if num_gpus else 0
        if gpus == 0 and may_grow():
            warn_no_gpu("--pools.scorer-gpus")
    fitting = min(math.floor(num_gpus / gpus), spare_cpus()) if gpus else 1
    scorers = pools.scorers or max(1, fitting)
    refuse_missing_gpus("pools", {"scorers": (scorers, "scorer-gpus", gpus)})
    warn_idle_gpus(num_gpus, scorers * gpus, "--pools.scorers fill")
    return dataclasses.replace(
        config, pools=dataclasses.replace(pools, scorers=scorers, scorer_gpus=gpus)
    )


def _refuse_small_share(generator_gpus: float, tensor_parallel: int) -> None:
    if 0 < generator_gpus < tensor_parallel and tensor_parallel > 1:
        raise PreflightError(
            f"--pools.generator-gpus {generator_gpus:g}: --model.tensor-parallel "
            f"{tensor_parallel} needs at least {tensor_parallel} GPUs per generator"
        )


def choose_worker_gpus(num_workers: int, gpus: float | None, flags: str = "workers") -> float:
    """The GPUs of each training worker: as asked, else one where there are any.

    Args:
        num_workers: of the training.
        gpus: of each, as asked.
        flags: the group of the job's flags that these are of.

    Raises:
        PreflightError: as in `with_gpu_shares`.
    """
    gpus_each = default_worker_gpus(gpus)
    if gpus_each == 0 and gpus is None and may_grow():
        warn_no_gpu(f"--{flags}.gpus")
    refuse_missing_gpus(flags, {"workers": (num_workers, "gpus", gpus_each)})
    if gpus_each:
        num_gpus = count_gpus()
        fitting = math.floor(num_gpus / gpus_each)
        warn_idle_gpus(num_gpus, num_workers * gpus_each, f"--{flags}.num {fitting} uses")
    return gpus_each


def default_worker_gpus(gpus: float | None) -> float:
    """The GPUs of a training worker, as asked, else one where the cluster has any."""
    return float(count_gpus() > 0) if gpus is None else gpus
