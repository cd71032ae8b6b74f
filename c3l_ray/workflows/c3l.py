"""C3L whole (arXiv 2405.12752): images in, a dataset of their best turns out.

Each stage is a folder of the output and a workflow of its own: round-0, train-0, round-1, dataset.
"""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from c3l_ray import __version__, schema
from c3l_ray.config import (
    SHARE_OR_COUNT,
    GenerateConfig,
    SelectConfig,
    Within,
    is_share_or_count,
)
from c3l_ray.dataset.select import select_turns
from c3l_ray.errors import PreflightError
from c3l_ray.identity import Identity, generation_identity
from c3l_ray.methods.scores import RankedBy
from c3l_ray.ranges import Conflicts, Range
from c3l_ray.runs.folder import REPORT, RunFolder
from c3l_ray.runs.report import RecordsReport, now
from c3l_ray.runs.statistics import describe_turns
from c3l_ray.train.training_config import ModelToTune, TrainConfig, TrainingOptions, TuningOptions
from c3l_ray.workflows.generate import generate_records
from c3l_ray.workflows.records import check_failures, make_paths_absolute

SEEDS_PER_RUN = 1000
"""Seeds of the rounds of one --sampling.seed, so that no round of another one has them too."""

NO_PART_OF_IDENTITY = ("workers", "progress", "export", "verify", "max_pixels")
"""Options of training that do not define the dataset, or are those of the generation."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class C3LConfig(GenerateConfig):
    """Shards of images in, the best of two or more rounds of turns out."""

    output: str
    """Folder for the stages, local or s3://. The same command resumes there."""
    rounds: Annotated[int, Range(min=0)] = 1
    """Trainings; a generation with the tuned model follows each."""
    top: Annotated[float, Range(above=0)] = 5000
    """Turns to keep (the paper's 5k), from 1 on, or a share of them below 1."""
    by: RankedBy = "i2c"
    """Score that ranks the turns to keep; random, clip and image_logprob are controls."""
    within: Within = "dataset"
    """Rank raw scores, or each turn among its kind, or among its kind's turns of like length."""
    fresh_seeds: bool = True
    """Give each round seeds of its own; without, rounds ask alike, and compare turn by turn."""
    tuning: TuningOptions = field(default_factory=TuningOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)

    def conflicts(self) -> Conflicts:
        if not self.keep_images:
            yield "keep_images", "training needs the images in the records"
        if self.training.contrast.token_weights == "vig" and not self.token_gains:
            yield "training.contrast.token_weights", "needs the flag --token-gains"
        if not is_share_or_count(self.top):
            yield "top", SHARE_OR_COUNT
        if self.model.trust_remote_code:
            yield "model.trust_remote_code", "training does not load models with code of their own"


@dataclass(frozen=True, kw_only=True)
class C3LReport:
    """What run.json at the top of the output says.

    Attributes:
        job: "c3l".
        version: of c3l-ray.
        origin: digest of the identity.
        identity: what defines the rounds.
        config: of the latest command.
        stages: by folder: each one's origin, the time it finished and its seconds; of a round what
            its turns are like; of the dataset its selection.json.
        finished: when, or None while stages are left to do.
    """

    job: str = "c3l"
    version: str = __version__
    origin: str
    identity: dict[str, Any]
    config: dict[str, Any]
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    finished: str | None = None


def run_c3l(config: C3LConfig, on_stage_end: Callable[[str, Any], None] | None = None) -> C3LReport:
    """Generates, trains, generates again and selects; returns what run.json says of it.

    Args:
        config: of all stages.
        on_stage_end: called with a stage's name and report where this command ran it.

    Raises:
        PreflightError: the job cannot start as it was asked to.
        C3LError: it cannot go on; run again, it resumes.
    """
    config = make_paths_absolute(config)
    folder = RunFolder.open(config.output)
    from c3l_ray.inference.model_check import check_tunable, choose_reply_format
    from c3l_ray.workflows.models import pin_generation

    if config.model.revision is not None:
        raise PreflightError(
            f"--model.revision {config.model.revision}: training takes the hub's latest commit; "
            "download the revision, and name its folder"
        )
    run = pin_generation(config, folder)
    config = run.config
    check_tunable("--model.name", config.model.name)
    if config.reply_format == "auto":
        config = dataclasses.replace(config, reply_format=choose_reply_format(config.model.name))
    identity = c3l_identity(config, generation_identity(config, **run.identities))
    identity = folder.claim(identity, "c3l", mix_versions=config.mix_versions)
    from c3l_ray.distributed import cluster
    from c3l_ray.train.fit import MODEL_FOLDER
    from c3l_ray.workflows.train import train_model

    workers, pools = config.training.workers, config.pools
    cluster.connect(max(cluster.count_actors(pools), workers.num + workers.readers))
    report = C3LReport(
        origin=identity.origin, identity=identity.content, config=dataclasses.asdict(config)
    )

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
            if isinstance(ended, RecordsReport):
                check_failures(ended, config.max_failed_share)
            stage_report = stage_folder.read_json(REPORT)
        assert stage_report is not None
        report.stages[name] = {
            key: stage_report.get(key) for key in ("origin", "finished", "seconds")
        }
        folder.write_json(REPORT, dataclasses.asdict(report))

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
                lambda: train_model(_training_config(config, model, round_name, training_name)),  # noqa: B023
            )
            model = f"{config.output}/{training_name}/{MODEL_FOLDER}"
    report.stages["dataset"] = dataclasses.asdict(select_turns(_selection_config(config)))
    report = dataclasses.replace(report, finished=now())
    folder.write_json(REPORT, dataclasses.asdict(report))
    return report


def c3l_identity(config: C3LConfig, generation: Identity) -> Identity:
    """What defines the rounds: all that defines the first generation, and the trainings.

    How many rounds there are and which turns of the last are kept is no part of it: another number
    goes on from the rounds that are there, and the selection is made afresh.
    """
    of_rounds = dict(generation.content)
    versions = of_rounds.pop("versions")
    training = dataclasses.asdict(config.training)
    return Identity(
        {
            "schema": schema.VERSION,
            "job": "c3l",
            "versions": versions,
            "generation": of_rounds,
            "tuning": dataclasses.asdict(config.tuning),
            "training": {
                name: value for name, value in training.items() if name not in NO_PART_OF_IDENTITY
            },
            "fresh_seeds": config.fresh_seeds,
        }
    )


def generation_config(config: C3LConfig, model: str, number: int) -> GenerateConfig:
    """A round of generation by a model; the model as it came scores it, whatever tuning did."""
    seed = config.sampling.seed * SEEDS_PER_RUN + (number if config.fresh_seeds else 0)
    return GenerateConfig(
        **{
            **_fields_of(GenerateConfig, config),
            "output": f"{config.output}/round-{number}",
            "sampling": dataclasses.replace(config.sampling, seed=seed),
            # A tuned model lies in a folder, which has no revisions.
            "model": dataclasses.replace(
                config.model, name=model, revision=config.model.revision if number == 0 else None
            ),
            "scorer": dataclasses.replace(config.scorer, name=config.scorer_name),
        }
    )


def _training_config(config: C3LConfig, model: str, round_name: str, name: str) -> TrainConfig:
    """The training of a model on the turns of a round."""
    return TrainConfig(
        **{
            **_fields_of(TrainingOptions, config.training),
            "input": (f"{config.output}/{round_name}",),
            "output": f"{config.output}/{name}",
            "model": ModelToTune(name=model, **_fields_of(TuningOptions, config.tuning)),
            "max_pixels": config.max_pixels,
        }
    )


def _fields_of(part: type, config: Any) -> dict[str, Any]:
    """The values of a config's fields that one of its base classes has."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(part)}


def _selection_config(config: C3LConfig) -> SelectConfig:
    return SelectConfig(
        input=f"{config.output}/round-{config.rounds}",
        output=f"{config.output}/dataset",
        top=config.top,
        by=config.by,
        within=config.within,
    )
