"""The Ray cluster a job runs on: joining it, its settings, and the GPUs each actor is given."""

import dataclasses
import logging
import os
import sys

import ray
from ray.data import DataContext

from c3l_ray.config import GenerateConfig, ScoreConfig
from c3l_ray.errors import C3LError, PreflightError

MAX_RETRIES = 3


def connect(num_actors: int) -> None:
    """Joins the cluster that RAY_ADDRESS names, or starts one on this machine for these actors.

    A process that has joined one stays in it, so the first job of several must be the largest.

    Raises:
        PreflightError: there is no cluster at RAY_ADDRESS.
        C3LError: Ray does not start on this machine.
    """
    if ray.is_initialized():
        return
    # What Ray says while all is well would bury what the job says; its logs keep it.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    address = _address()
    # A local cluster counts CPUs and does not bind them: it needs more than the actors take, or
    # none is left for reading and writing.
    size = {"num_cpus": max(num_actors + 2, os.cpu_count() or 1)} if address == "local" else {}
    try:
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **size,
        )
    except Exception as error:  # Ray raises that itself where a node does not start in time
        if address == "local":
            raise C3LError(
                f"Ray did not start on this machine: {error}; the same command tries again"
            ) from error
        raise PreflightError(f"RAY_ADDRESS {address}: no cluster to join there: {error}") from error
    set_context()


def _address() -> str:
    return os.environ.get("RAY_ADDRESS", "local")


def logs() -> str:
    """Where Ray keeps what each process of this cluster said, on the node it ran on."""
    session = ray.get_runtime_context().get_session_name()
    return os.path.join(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", session, "logs", "worker-*")


def set_context() -> None:
    """The settings under which a unit stays one block, and a slow start is no failure."""
    context = DataContext.get_current()
    context.target_max_block_size = None
    context.execution_no_progress_timeout_s = -1  # a model that loads slowly is not a fault
    context.max_consecutive_actor_init_deaths = MAX_RETRIES
    context.enable_progress_bars = sys.stderr.isatty()
    context.enable_rich_progress_bars = True
    context.use_ray_tqdm = False


def placed(config: GenerateConfig) -> GenerateConfig:
    """The config with every GPU share decided that the user left open.

    Raises:
        PreflightError: pools that cannot be: Ray would wait for their GPUs for ever.
    """
    pools, model = config.pools, config.model
    there = ray.cluster_resources().get("GPU", 0)
    generator, scorer = float(model.tensor_parallel), 0.5
    if there == 0:
        generator, scorer = 0, 0
        if _address() != "local" and pools.generator_gpus is None:
            _say_none("--pools.generator-gpus and --pools.scorer-gpus make")
    elif there == 1 == pools.generators == pools.scorers == model.tensor_parallel:
        generator, scorer = 0.7, 0.3  # the two share it
    generator = generator if pools.generator_gpus is None else pools.generator_gpus
    scorer = scorer if pools.scorer_gpus is None else pools.scorer_gpus
    if 0 < generator < model.tensor_parallel and model.tensor_parallel > 1:
        raise PreflightError(
            f"--pools.generator-gpus {generator:g}: --model.tensor-parallel "
            f"{model.tensor_parallel} needs as many"
        )
    _check(
        "pools",
        {
            "generators": (pools.generators, "generator-gpus", generator),
            "scorers": (pools.scorers, "scorer-gpus", scorer),
        },
    )
    memory = model.gpu_memory or 0.9 * min(1.0, generator or 1.0)
    return dataclasses.replace(
        config,
        pools=dataclasses.replace(pools, generator_gpus=generator, scorer_gpus=scorer),
        model=dataclasses.replace(model, gpu_memory=memory),
    )


def scorers_placed(config: ScoreConfig) -> ScoreConfig:
    """The same where nothing is generated: a scorer has a GPU of its own.

    Raises:
        PreflightError: as in `placed`.
    """
    pools = config.pools
    gpus = pools.scorer_gpus
    if gpus is None:
        gpus = 1 if ray.cluster_resources().get("GPU", 0) else 0
        if gpus == 0 and _address() != "local":
            _say_none("--pools.scorer-gpus makes")
    _check("pools", {"scorers": (pools.scorers, "scorer-gpus", gpus)})
    return dataclasses.replace(config, pools=dataclasses.replace(pools, scorer_gpus=gpus))


def _check(group: str, actors: dict[str, tuple[int, str, float]]) -> None:
    """Refuses actors that Ray would wait for for ever; says so where they wait for nodes.

    Args:
        group: of the flags.
        actors: by what they are called: how many, the flag of each one's GPUs, and these.
    """
    for _, flag, gpus in actors.values():
        if gpus > 1 and gpus != int(gpus):
            raise PreflightError(f"--{group}.{flag} {gpus:g}: above 1 only whole numbers")
    there = ray.cluster_resources().get("GPU", 0)
    needed = sum(size * gpus for size, _, gpus in actors.values())
    if needed <= there:
        return
    listed = " and ".join(
        f"{size} {name} with {gpus:g}" for name, (size, _, gpus) in actors.items()
    )
    take = f"{listed} GPUs each take {needed:g} GPUs, and"
    if _address() == "local":  # a cluster may start nodes when they are asked for
        raise PreflightError(f"--{group}: {take} this machine has {there:g}")
    print(f"{take} the cluster has {there:g} now: waiting for nodes", file=sys.stderr)


def _say_none(flags_make: str) -> None:
    print(
        f"the cluster has no GPU now, so none is asked for; {flags_make} it start some",
        file=sys.stderr,
    )


def worker_gpus(num_workers: int, gpus: float | None) -> float:
    """The GPUs of each training worker: as asked, else one where there are any.

    Raises:
        PreflightError: as in `placed`.
    """
    each = float(ray.cluster_resources().get("GPU", 0) > 0) if gpus is None else gpus
    if each == 0 and gpus is None and _address() != "local":
        _say_none("--workers.gpus makes")
    _check("workers", {"workers": (num_workers, "gpus", each)})
    return each
