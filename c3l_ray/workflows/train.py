"""Scored turns in, a tuned checkpoint out that vLLM loads."""

import dataclasses
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from c3l_ray import __version__
from c3l_ray.errors import C3LError, last_line
from c3l_ray.runs.folder import REPORT, RunFolder
from c3l_ray.runs.report import now
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.workflows.records import make_paths_absolute

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """What run.json says of a training.

    Attributes:
        job: "train".
        version: of c3l-ray.
        images: to learn from.
        held_out_images: to evaluate on.
        mixture: by set of turns, their number and the share of the draws; empty where records are
            learnt whole.
        steps: of the optimizer.
        objective: "c3l", "cgvlm" or "vigc".
        tune: which weights learn: "lora", "full" or "adapter".
        model: identities of the weights: "initial" ones, and "tuned" ones once they are written.
        origin: digest of the identity.
        identity: what defines the tuned weights.
        config: of the latest command.
        seconds: "train", and "wall" with the check in vLLM.
        last_measurements: the latest value of every measurement.
        skipped: images that were drawn and not learnt from, by reason, as often as they were drawn.
        verified_reply: what the tuned model replied in vLLM, where that was checked.
        finished: when, or None while steps are left to do.
    """

    job: str = "train"
    version: str = __version__
    images: int
    held_out_images: int
    mixture: dict[str, dict[str, Any]]
    steps: int
    objective: str
    tune: str
    model: dict[str, str | None]
    origin: str
    identity: dict[str, Any]
    config: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)
    last_measurements: dict[str, float | None] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    verified_reply: str | None = None
    finished: str | None = None


def train_model(config: TrainConfig) -> TrainingReport:
    """Tunes the model on the input, and returns what run.json says of it.

    A training that an earlier command finished is not done again.

    Raises:
        PreflightError: the job cannot start as it was asked to.
        C3LError: it cannot go on; run again, it resumes from the latest checkpoint.
    """
    started = time.monotonic()
    config = make_paths_absolute(config)
    from c3l_ray.inference.model_check import check_model
    from c3l_ray.train.identity import training_identity
    from c3l_ray.train.learning.export import check_exportable
    from c3l_ray.train.reading.encode import check_takes_text
    from c3l_ray.train.reading.length_check import check_lengths
    from c3l_ray.train.reading.sources import open_source
    from c3l_ray.train.reading.training_data import load_training_data, summarize_mixture

    source = open_source(config)
    folder = RunFolder.open(config.output)
    initial_model = check_model("--model.name", config.model.name)
    check_exportable(config.model.name)
    check_takes_text(config.model.name)
    identity = training_identity(config, source, initial_model)
    finished = _load_finished(folder, identity.origin)
    if finished is not None:
        log.info("this training finished on %s; nothing is left to do", finished.finished)
        return finished

    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    from c3l_ray.distributed import cluster
    from c3l_ray.train import fit
    from c3l_ray.train.reading.order import count_images

    data = load_training_data(source, config)
    check_lengths(data, config)
    folder.claim(identity, "train")
    cluster.connect(config.workers.num + config.workers.readers)
    gpus = cluster.choose_worker_gpus(config.workers.num, config.workers.gpus)
    config = dataclasses.replace(config, workers=dataclasses.replace(config.workers, gpus=gpus))
    run = fit.TrainingRun(config=config, data=data, write=folder.write)
    report = TrainingReport(
        images=count_images(data.files),
        held_out_images=count_images(data.held_out),
        mixture=summarize_mixture(data, config),
        steps=run.num_steps,
        objective=config.objective,
        tune=config.tune_mode,
        model={"initial": initial_model, "tuned": None},
        origin=identity.origin,
        identity=identity.content,
        config=dataclasses.asdict(config),
    )
    folder.write_json(REPORT, dataclasses.asdict(report))
    log.info(
        "%d images to learn from, %d held out; %d steps of %d images",
        *(report.images, report.held_out_images, run.num_steps, config.optim.batch_size),
    )
    try:
        fit.fit(run, folder.location.address)
    except (RayError, TrainingFailedError) as error:
        raise C3LError(
            f"the training stopped: {last_line(error)}\n"
            f"the log files of its processes are {cluster.find_log_files()}\n"
            "run the same command again to go on from the latest checkpoint"
        ) from error
    tuned = (folder.location / fit.MODEL_FOLDER).address
    train_s = time.monotonic() - started
    tuned_model = check_model("--output", tuned)
    reply = _verify(config, source, data, tuned) if config.verify else None
    measurements = _last_measurements(folder.read_json("measurements.json") or [])
    report = dataclasses.replace(
        report,
        model={"initial": initial_model, "tuned": tuned_model},
        seconds={"train": round(train_s, 3), "wall": round(time.monotonic() - started, 3)},
        last_measurements=measurements,
        skipped=_skipped_images(measurements),
        verified_reply=reply,
        finished=now(),
    )
    folder.write_json(REPORT, dataclasses.asdict(report))
    return report


def _load_finished(folder: RunFolder, origin: str) -> TrainingReport | None:
    """The report of a training of this origin that an earlier command finished, or None."""
    content = folder.read_json(REPORT)
    if not content or content.get("origin") != origin or not content["finished"]:
        return None
    return TrainingReport(**content)


def _verify(config: TrainConfig, source: Any, data: Any, tuned: str) -> str:
    """Asks the tuned model in vLLM for a turn that it has learnt."""
    from c3l_ray.workflows.verify import ask_tuned_model

    first = data.files[0]
    (record,) = source.read(first.address, first.rows[:1])
    turn = next(turn for turn in record["turns"] if turn["status"] == "ok")
    return ask_tuned_model(
        tuned,
        image=record["image"],
        instruction=turn["instruction"] or turn["question"],
        max_pixels=config.max_pixels,
        gpus=config.workers.gpus or 0,
    )


def _skipped_images(measurements: dict[str, float | None]) -> dict[str, int]:
    """The numbers of skipped images by reason, those above 0."""
    prefix = "skipped_"
    return {
        name.removeprefix(prefix): int(count)
        for name, count in measurements.items()
        if name.startswith(prefix) and count
    }


def _last_measurements(lines: list[dict[str, float | None]]) -> dict[str, float | None]:
    """The latest value of every measurement; some stand in some lines only."""
    latest: dict[str, float | None] = {}
    for line in lines:
        latest |= {name: value for name, value in line.items() if value is not None}
    return latest
