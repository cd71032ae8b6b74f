"""C3L whole (arXiv 2405.12752): images in, a dataset of their best turns out.

Each stage is a folder of the output and a workflow of its own: round-0, train-0, round-1, dataset.
Between two rounds the generator is tuned as in the paper, by contrasting the turns of an image, or
by learning the best of several answers to a question (`methods.answers`).
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

from c3l_ray import schema
from c3l_ray.config import GenerateConfig
from c3l_ray.dataset.finished import select_once
from c3l_ray.errors import PreflightError
from c3l_ray.identity import Identity, generation_identity
from c3l_ray.inputs.find import find_shards
from c3l_ray.methods.scores import RankedBy
from c3l_ray.ranges import Conflicts, Range
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.folder import REPORT, RunFolder
from c3l_ray.runs.state import CommandLog, State, note_failure, now
from c3l_ray.runs.statistics import describe_turns
from c3l_ray.select_config import SHARE_OR_COUNT, SelectConfig, Within, is_share_or_count
from c3l_ray.train.training_config import ModelToTune, TrainConfig, TrainingOptions, TuningOptions
from c3l_ray.workflows.budget import hold_to_hours, hold_to_price
from c3l_ray.workflows.c3l_report import C3LReport
from c3l_ray.workflows.generate import generate_records
from c3l_ray.workflows.prompts import settle_generation, settle_instructions
from c3l_ray.workflows.records import check_failures, fields_of, make_paths_absolute

SEEDS_PER_RUN = 1000
"""Seeds of the rounds of one --sampling.seed, so that no round of another one has them too."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class C3LConfig(GenerateConfig):
    """Shards of images in, the best of two or more rounds of turns out."""

    output: str
    """Folder for the stages, local or s3://. The same command resumes there."""
    rounds: Annotated[int, Range(min=0)] = 1
    """Trainings; a generation with the tuned model follows each."""
    objective: Literal["c3l", "answers"] = "c3l"
    """Learn an image's best turn against its others, or (answers) a question's best answer."""
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
        yield from super().conflicts()
        if self.objective == "answers" and self.rounds and not self.answers:
            yield "objective", "has no answers to choose from; ask for some, such as --answers 6"
        if self.limit is not None:
            yield "limit", "later stages are made from whole rounds; name an input of fewer images"
        if self.retry_failed is not None:
            yield "retry_failed", "later stages are made from the rounds as they are"
        for name, content in (("score", "scores"), ("keep_images", "images")):
            if not getattr(self, name):
                yield name, f"training needs the {content} in the records"
        if self.training.contrast.token_weights == "vig" and not self.token_gains:
            yield "training.contrast.token_weights", "needs the flag --token-gains"
        if not is_share_or_count(self.top):
            yield "top", SHARE_OR_COUNT
        if self.model.trust_remote_code:
            yield "model.trust_remote_code", "training does not load models with code of their own"


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
    config = make_paths_absolute(config)
    if config.model.revision is not None:
        raise PreflightError(
            f"--model.revision {config.model.revision}: training takes the hub's latest commit; "
            "download the revision, and name its folder"
        )
    folder = RunFolder.open(config.output)
    folder.check_free("c3l")
    config = settle_instructions(config)
    log.info("looking for the input")
    find_shards(config.input, config.layout)
    log.info("checking the models")
    from c3l_ray.inference.model_check import check_tunable
    from c3l_ray.workflows.models import pin_generation

    run = pin_generation(config, folder)
    check_tunable("--model.name", config.model.name)
    config = settle_generation(run.config)
    identity = c3l_identity(generation_identity(config, **run.identities))
    identity = folder.claim(identity, "c3l", mix_versions=config.mix_versions)
    check_stages(config, run.identities)
    from c3l_ray.distributed import cluster

    commands = CommandLog(folder, identity.origin)
    with note_failure(commands.note):
        commands.note("running")
        workers = config.training.workers
        num_training = workers.num + workers.readers
        cluster.connect(max(cluster.count_actors(config), num_training), verbose=config.verbose)
        gpus_to_train = workers.num * cluster.default_worker_gpus(workers.gpus)
        hold_to_price(config, max(cluster.choose_pools(config).gpus, gpus_to_train))
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
                lambda: train_model(training_config(config, model, number)),  # noqa: B023
            )
            model = f"{config.output}/{training_name}/{MODEL_FOLDER}"
    report.stages["dataset"] = select_once(_selection_config(config))
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
        of_training = training_config(config, config.model.name, number)
        return training_identity(of_training, open_source(of_training), generator)

    for number in range(config.rounds + 1):
        check_stage(f"round-{number}", "generate", partial(identify_round, number))
        if number < config.rounds:
            identify = partial(identify_training, number)
            report = check_stage(f"train-{number}", "train", identify)
            generator = generator if gap else report["model"]["tuned"]


def generation_config(config: C3LConfig, model: str, number: int) -> GenerateConfig:
    """A round of generation by a model; the model as it came scores it, whatever tuning did."""
    seed = config.sampling.seed * SEEDS_PER_RUN + (number if config.fresh_seeds else 0)
    return GenerateConfig(
        **{
            **fields_of(GenerateConfig, config),
            "output": f"{config.output}/round-{number}",
            "sampling": dataclasses.replace(config.sampling, seed=seed),
            # A tuned model lies in a folder, which has no revisions.
            "model": dataclasses.replace(
                config.model, name=model, revision=config.model.revision if number == 0 else None
            ),
            "scorer": dataclasses.replace(config.scorer, name=config.scorer_name),
        }
    )


def training_config(config: C3LConfig, model: str, number: int) -> TrainConfig:
    """The training of a model on the turns of a round."""
    return TrainConfig(
        **{
            **fields_of(TrainingOptions, config.training),
            "input": (f"{config.output}/round-{number}",),
            "output": f"{config.output}/train-{number}",
            "objective": config.objective,
            "model": ModelToTune(
                name=model,
                template_args=config.model.template_args,
                **fields_of(TuningOptions, config.tuning),
            ),
            "max_pixels": config.max_pixels,
            "grace": config.grace,
        }
    )


def _selection_config(config: C3LConfig) -> SelectConfig:
    return SelectConfig(
        input=f"{config.output}/round-{config.rounds}",
        output=f"{config.output}/dataset",
        top=config.top,
        by=config.by,
        within=config.within,
    )
