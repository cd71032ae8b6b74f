"""C3L whole (arXiv 2405.12752): images in, a dataset of their best turns out.

Each stage is a folder of the output and a workflow of its own: round-0, train-0, round-1, dataset.
Between rounds the generator learns to contrast the turns of an image, or the best of its answers.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from c3l_ray import schema
from c3l_ray.dataset.finished import select_once
from c3l_ray.errors import PreflightError
from c3l_ray.identity import Identity, generation_identity
from c3l_ray.inputs.find import find_shards
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.folder import REPORT, RunFolder
from c3l_ray.runs.state import CommandLog, State, note_failure, now
from c3l_ray.runs.statistics import describe_turns
from c3l_ray.workflows.budget import hold_to_hours, hold_to_price
from c3l_ray.workflows.c3l_config import (
    C3LConfig,
    generation_config,
    selection_config,
    training_config,
)
from c3l_ray.workflows.c3l_report import C3LReport
from c3l_ray.workflows.generate import generate_records
from c3l_ray.workflows.prompts import settle_generation, settle_instructions
from c3l_ray.workflows.records import check_failures, make_paths_absolute
from c3l_ray.workflows.tuning_check import check_images_to_learn, check_model_to_tune

log = logging.getLogger(__name__)


def run_c3l(config: C3LConfig, on_stage_end: Callable[[str, Any], None] | None = None) -> C3LReport:
    """Generates, trains, generates again and selects; returns what run.json says of it.

    Args:
        config: of all stages.
        on_stage_end: called with a stage's name and report where this command ran it.

    Raises:
        PreflightError: the job cannot start as it was asked to.
        C3LError: it cannot go on; run again, it resumes.
    """
    hold_to_hours(config)
    config = settle_instructions(make_paths_absolute(config))
    folder = RunFolder.open(config.output)
    folder.check_free("c3l")
    log.info("looking for the input")
    shards = find_shards(config.input, config.layout)
    log.info("checking the models")
    from c3l_ray.workflows.models import pin_generation

    run = pin_generation(config, folder)
    config = settle_generation(run.config)
    first_training = training_config(config, config.model.name, 0) if config.rounds else None
    first_images = []
    if first_training is not None:
        check_model_to_tune(first_training)
        first_images = check_images_to_learn(shards, config.layout, first_training)
    identity = c3l_identity(generation_identity(config, **run.identities))
    identity = folder.claim(identity, "c3l", mix_versions=config.mix_versions)
    check_stages(config, run.identities)
    from c3l_ray.distributed import cluster
    from c3l_ray.distributed.devices import find_device
    from c3l_ray.train.learning.memory import check_memory

    commands = CommandLog(folder, identity.origin)
    with note_failure(commands.note):
        commands.note("running")
        workers = config.training.workers
        num_training = workers.num + workers.readers
        cluster.connect(max(cluster.count_actors(config), num_training), verbose=config.verbose)
        worker_gpus = 0.0
        if config.rounds:
            worker_gpus = cluster.choose_worker_gpus(workers.num, workers.gpus, "training.workers")
        pools = cluster.choose_pools(config)
        hold_to_price(config, max(pools.gpus, workers.num * worker_gpus))
        if first_training is not None:
            device = find_device(worker_gpus)
            check_memory(first_training, first_images, device.memory if device else None)
        return _run_stages(config, folder, identity, commands, on_stage_end)


def _run_stages(
    config: C3LConfig,
    folder: RunFolder,
    identity: Identity,
    commands: CommandLog,
    on_stage_end: Callable[[str, Any], None] | None,
) -> C3LReport:
    """The stages that are left to do, on the cluster we have joined, in a folder that is claimed.

    Raises:
        C3LError: as `run_c3l`.
    """
    from c3l_ray.train.fit import MODEL_FOLDER
    from c3l_ray.workflows.train import train_model

    report = C3LReport(
        origin=identity.origin, identity=identity.content, config=dataclasses.asdict(config)
    )

    def write_report(state: State) -> C3LReport:
        written = dataclasses.replace(report, **commands.describe(state))
        folder.write_json(REPORT, dataclasses.asdict(written))
        return written

    def run_stage(name: str, run: Callable[[], Any]) -> None:
        """Runs a stage that no earlier command finished, and notes it in run.json."""
        stage_folder = RunFolder.open(f"{config.output}/{name}")
        stage_report = stage_folder.read_json(REPORT)
        is_done = bool(stage_report and stage_report["finished"])
        log.info("\n%s %s", name, "is done" if is_done else "begins")
        if not is_done:
            ended = run()
            if on_stage_end is not None:
                on_stage_end(name, ended)
            stage_report = stage_folder.read_json(REPORT)
        assert stage_report is not None
        if "turn_status" in stage_report:  # a round, of this command or of an earlier one
            check_failures(Counts.from_report(stage_report), config.max_failed_share)
        report.stages[name] = {
            key: stage_report.get(key) for key in ("origin", "finished", "seconds")
        }
        write_report("running")

    model = config.model.name
    for number in range(config.rounds + 1):
        round_name, training_name = f"round-{number}", f"train-{number}"
        run_stage(
            round_name,
            lambda: generate_records(generation_config(config, model, number)),  # noqa: B023
        )
        turns = describe_turns(RunFolder.open(f"{config.output}/{round_name}"))
        report.stages[round_name]["turns"] = turns
        if number < config.rounds:
            run_stage(
                training_name,
                lambda: train_model(
                    training_config(config, model, number),  # noqa: B023
                    generation_config(config, model, number + 1).model,  # noqa: B023
                ),
            )
            model = f"{config.output}/{training_name}/{MODEL_FOLDER}"
    report.stages["dataset"] = select_once(selection_config(config))
    report = dataclasses.replace(report, finished=now())
    return write_report("finished")


def c3l_identity(generation: Identity) -> Identity:
    """What defines the output as a whole: what defines its first generation.

    Each stage has an identity of its own beside it, so that a finished run takes more rounds,
    another selection, or other settings of a stage that is still to come.
    """
    of_rounds = dict(generation.content)
    versions = of_rounds.pop("versions")
    return Identity(
        {"schema": schema.VERSION, "job": "c3l", "versions": versions, "generation": of_rounds}
    )


def check_stages(config: C3LConfig, models: Mapping[str, str]) -> None:
    """Makes sure that the stages that are there are those of this config, before another begins.

    Args:
        config: of all stages.
        models: identities of the models that the run begins with.

    Raises:
        PreflightError: a stage is of other settings, or was made from one that is not there.
    """
    from c3l_ray.train.identity import training_identity
    from c3l_ray.train.reading.sources import open_source
    from c3l_ray.workflows.models import take_noted_precision

    generator = models["model"]  # of the next round
    gap: str | None = None  # the first stage that is still to be made

    def check_stage(name: str, job: str, identify: Callable[[], Identity]) -> dict[str, Any]:
        """The report of a stage, empty where it is not there."""
        nonlocal gap
        stage = RunFolder.open(f"{config.output}/{name}")
        report: dict[str, Any] = stage.read_json(REPORT) or {}
        if report and gap:
            raise PreflightError(
                f"--output {stage.path}: was made from {gap}, which is not there or not finished; "
                f"remove {name}, and it is made anew"
            )
        identity = identify() if report else None
        try:
            if identity:
                stage.claim(identity, job, mix_versions=config.mix_versions)
        except PreflightError as error:
            raise PreflightError(
                f"{error}\nOr remove {name} and the stages after it, and they are made anew"
            ) from error
        if not report or (job == "train" and not report["finished"]):
            gap = gap or name
        return report

    def identify_round(number: int) -> Identity:
        of_round = generation_config(config, config.model.name, number)
        return generation_identity(of_round, **{**models, "model": generator})

    def identify_training(number: int) -> Identity:
        folder = RunFolder.open(f"{config.output}/train-{number}")
        of_training = training_config(config, config.model.name, number)
        of_training = take_noted_precision(of_training, folder)
        return training_identity(of_training, open_source(of_training), generator)

    for number in range(config.rounds + 1):
        check_stage(f"round-{number}", "generate", partial(identify_round, number))
        if number < config.rounds:
            identify = partial(identify_training, number)
            report = check_stage(f"train-{number}", "train", identify)
            generator = generator if gap else report["model"]["tuned"]
