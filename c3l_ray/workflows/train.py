"""Scored turns in, a tuned checkpoint out that vLLM loads."""

import dataclasses
import logging
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from c3l_ray.errors import C3LError, PreflightError, Stopped, last_line
from c3l_ray.identity import Identity
from c3l_ray.model_config import GeneratorModel
from c3l_ray.runs.folder import REPORT, RunFolder
from c3l_ray.runs.state import PROGRESS, CommandLog, note_failure, now
from c3l_ray.train.reading.sources import Source, open_source
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.workflows.prompts import settle_training
from c3l_ray.workflows.records import make_paths_absolute
from c3l_ray.workflows.training_report import (
    TrainingReport,
    count_skipped,
    find_latest,
    format_progress,
    measure_progress,
)
from c3l_ray.workflows.tuning_check import check_model_to_tune

if TYPE_CHECKING:
    from c3l_ray.distributed.devices import Device
    from c3l_ray.train.reading.training_data import TrainingData

log = logging.getLogger(__name__)


def train_model(config: TrainConfig, engine: GeneratorModel | None = None) -> TrainingReport:
    """Tunes the model on the input, and returns what run.json says of it.

    A training that an earlier command finished is not done again.

    Args:
        config: of the run.
        engine: how vLLM is to load the tuned model at the end (default: on as few of the workers'
            GPUs as hold it).

    Raises:
        PreflightError: the job cannot start as it was asked to.
        C3LError: it cannot go on; run again, it resumes from the latest checkpoint.
    """
    started = time.monotonic()
    config = make_paths_absolute(config)
    from c3l_ray.train.identity import training_identity
    from c3l_ray.train.reading.length_check import check_lengths, find_filler
    from c3l_ray.train.reading.training_data import load_training_data
    from c3l_ray.workflows.models import pin_training

    folder = RunFolder.open(config.output)
    folder.check_free("train")
    log.info("reading what there is to learn from")
    source = open_source(config)
    config, notes = _take_max_pixels(config, source)
    log.info("checking the model")
    config, initial_model = pin_training(config, folder, source.prompt_date)
    notes += check_model_to_tune(config)
    config = settle_training(config)
    identity = training_identity(config, source, initial_model)
    is_begun = folder.read_json(REPORT) is not None
    if is_begun:  # another training's output is refused before data is read
        identity = folder.claim(identity, "train", mix_versions=config.mix_versions)
    finished = _load_finished(folder, identity.origin)
    if finished is not None:
        if config.export == "adapter" and finished.config.get("export") != "adapter":
            raise PreflightError(
                f"{config.flag('export')} adapter: the training in {folder.path} finished without "
                f"it; train {_name_afresh(config)}"
            )
        log.info("this training finished on %s; nothing is left to do", finished.finished)
        return finished

    from c3l_ray.distributed import cluster
    from c3l_ray.distributed.devices import find_device
    from c3l_ray.train.learning.memory import check_memory

    data = load_training_data(source, config)
    first_images = check_lengths(data, config)
    data = dataclasses.replace(data, filler=find_filler(data, config))
    cluster.connect(config.workers.num + config.workers.readers)
    flags = config.flag("workers").removeprefix("--")
    gpus = cluster.choose_worker_gpus(config.workers.num, config.workers.gpus, flags)
    device = find_device(gpus)
    check_memory(config, first_images, device.memory if device else None)
    if not is_begun:
        config = _decide_precision(config, gpus, device)
        identity = training_identity(config, source, initial_model)
        folder.claim(identity, "train")
    config = dataclasses.replace(config, workers=dataclasses.replace(config.workers, gpus=gpus))
    commands = CommandLog(folder, identity.origin)
    with note_failure(commands.note):
        return _fit_and_verify(
            config, data, folder, identity, commands, initial_model, notes, started, engine
        )


def _fit_and_verify(
    config: TrainConfig,
    data: "TrainingData",
    folder: RunFolder,
    identity: Identity,
    commands: CommandLog,
    initial_model: str,
    notes: list[str],
    started: float,
    engine: GeneratorModel | None,
) -> TrainingReport:
    """Trains in a folder that is claimed, and asks the tuned model in vLLM.

    Raises:
        C3LError: as `train_model`.
    """
    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    from c3l_ray.distributed import cluster
    from c3l_ray.distributed.stop_flag import follow
    from c3l_ray.inference.model_check import check_model
    from c3l_ray.train import fit
    from c3l_ray.train.learning.metrics import MEASUREMENTS
    from c3l_ray.train.reading.order import count_images
    from c3l_ray.train.reading.training_data import summarize_mixture

    run = fit.TrainingRun(config=config, data=data, write=partial(folder.write_as, identity.origin))
    report = TrainingReport(
        images=count_images(data.files),
        held_out_images=count_images(data.held_out),
        left_out_images=data.num_left_out,
        left_out_turns=data.left_out_turns,
        mixture=summarize_mixture(data, config),
        follow_ups=data.num_follow_ups,
        steps=run.num_steps,
        objective=config.objective,
        tune=config.tune_mode,
        model={"initial": initial_model, "tuned": None},
        origin=identity.origin,
        identity=identity.content,
        config=dataclasses.asdict(config),
        notes=notes,
        **commands.describe("running"),
    )
    folder.write_json(REPORT, dataclasses.asdict(report))
    if folder.read_json(fit.STOPPED):
        folder.write_json(fit.STOPPED, {})  # of the command before this one

    def say() -> None:
        line = format_progress(folder.read_json(MEASUREMENTS) or [], run.num_steps)
        log.info(line, extra=PROGRESS)

    def measure() -> dict[str, float | None]:
        return measure_progress(folder.read_json(MEASUREMENTS) or [], run.num_steps)

    commands.begin(lambda: commands.note("running"), say, measure)
    log.info(
        "%d images to learn from, %d held out, %d left out; %d steps of %d images",
        *(report.images, report.held_out_images, report.left_out_images),
        *(run.num_steps, config.optim.batch_size),
    )
    steps_done = 0
    try:
        steps_by_fit = (fit.fit(run, folder.location.address) for _ in range(1))
        with closing(follow(steps_by_fit, run.flag, config.grace)) as followed:
            for steps in followed:
                steps_done = steps
    except Stopped as stop:
        saved = f"{steps_done} of {run.num_steps} steps are" if steps_done else "The latest are"
        raise stop.with_detail(f"{saved} saved in {config.output}") from stop
    except (RayError, TrainingFailedError) as error:
        raise C3LError(
            f"the training stopped: {last_line(error)}\n"
            f"the log files of its processes are {cluster.find_log_files()}\n"
            "the same command resumes from the latest checkpoint"
        ) from error
    log.info(format_progress(folder.read_json(MEASUREMENTS) or [], run.num_steps))
    _raise_if_stopped(config, folder.read_json(fit.STOPPED))
    tuned = (folder.location / fit.MODEL_FOLDER).address
    train_s = time.monotonic() - started
    tuned_model = check_model("--output", tuned)
    reply, unverified = _verify(config, data, tuned, engine) if config.verify else (None, None)
    late_notes: list[str] = folder.read_json(fit.NOTES) or []
    late_notes += [unverified] if unverified else []
    for note in late_notes:
        log.warning(note)
    measurements = find_latest(folder.read_json(MEASUREMENTS) or [])
    report = dataclasses.replace(
        report,
        model={"initial": initial_model, "tuned": tuned_model},
        seconds={"train": round(train_s, 3), "wall": round(time.monotonic() - started, 3)},
        last_measurements=measurements,
        skipped=count_skipped(measurements),
        notes=[*report.notes, *late_notes],
        verified_reply=reply,
        finished=now(),
        **commands.describe("finished"),
    )
    folder.write_json(REPORT, dataclasses.asdict(report))
    return report


def _decide_precision(config: TrainConfig, gpus: float, device: "Device | None") -> TrainConfig:
    """The config without the precision `auto`, unless its GPUs are still to come."""
    if config.model.precision != "auto" or (gpus and device is None):
        return config
    precision: Any = "bfloat16" if device and device.has_bfloat16 else "float32"
    return dataclasses.replace(config, model=dataclasses.replace(config.model, precision=precision))


def _take_max_pixels(config: TrainConfig, source: Source) -> tuple[TrainConfig, list[str]]:
    """The config with images as large as those of the run, and a note where it has others."""
    if config.max_pixels is None:
        return dataclasses.replace(config, max_pixels=source.max_pixels), []
    if source.max_pixels in (None, config.max_pixels):
        return config, []
    note = (
        f"--max-pixels {config.max_pixels}: the run in {' '.join(config.input)} was made with "
        f"images of at most {source.max_pixels} pixels, so that the model learns from others than "
        "its turns were written about"
    )
    log.warning(note)
    return config, [note]


def _load_finished(folder: RunFolder, origin: str) -> TrainingReport | None:
    """The report of a training of this origin that an earlier command finished, or None."""
    content = folder.read_json(REPORT)
    if not content or content.get("origin") != origin or not content["finished"]:
        return None
    return TrainingReport(**content)


def _raise_if_stopped(config: TrainConfig, stop: dict[str, Any] | None) -> None:
    """Says that a training stopped itself.

    Raises:
        C3LError: it did, and there is no tuned model.
    """
    if not stop:
        return
    kept = (
        f"the checkpoint of step {stop['saved_step']} is kept"
        if stop["saved_step"]
        else "no checkpoint was written before it"
    )
    raise C3LError(
        f"the training stopped itself at step {stop['step']}: {stop['reason']}\n"
        f"{kept}, and no model is written; train with a lower "
        f"{config.flag('optim.learning_rate')} or {config.flag('answers.pair_weight')}, or fewer "
        f"{config.flag('optim.steps')}, {_name_afresh(config)}\n"
        f"the same command with a lower {config.flag('answers.min_readable')} goes on from where "
        "it was kept"
    )


def _name_afresh(config: TrainConfig) -> str:
    """Where a training of other settings goes."""
    if config.job == "c3l":
        return f"after {config.output} is removed: the rounds before it are kept"
    return "into another output"


def _verify(
    config: TrainConfig, data: Any, tuned: str, engine: GeneratorModel | None
) -> tuple[str | None, str | None]:
    """Asks the tuned model in vLLM for a turn that it has learnt.

    Returns:
        Its reply; or none, and a note that says why it was not asked.
    """
    from c3l_ray.train.reading.training_data import choose_prompt
    from c3l_ray.workflows.verify import ask_tuned_model, plan_engine

    prompt = choose_prompt(data, config.image_pixels)
    if prompt is None:
        return None, "the tuned model was not asked: none of the first images can be decoded"
    record, instruction = prompt
    assert record["image"] is not None, "it was decoded"
    plan, note = plan_engine(config, tuned, engine)
    if plan is None:
        return None, note
    return ask_tuned_model(plan, config, image=record["image"], instruction=instruction), None
