"""C3L whole: images in, a dataset of their best turns out, by a generator tuned on the way.

    python -m jobs.c3l --input s3://bucket/shards --output s3://bucket/c3l \\
        --model.name llava-hf/llava-1.5-7b-hf --pools.generators 8 --training.workers.num 8

The stages (arXiv 2405.12752), each a folder of the output and a job of its own:

    round-0/  the model writes turns; each is scored under the model as it came   jobs.generate
    train-0/  the best turn of each image is contrasted with its others           jobs.train
    round-1/  the tuned model writes the turns anew; the model as it came scores   jobs.generate
    dataset/  the turns of the last round that rank highest                        jobs.select

--rounds 2 trains and writes once more, from the tuned model on. Stopped at any time, the same
command goes on in the stage where it was; stages that are done are passed over. run.json names the
stages; each has one of its own. Runs on the cluster that RAY_ADDRESS names, else on this machine.

Exit status: 0 finished, 2 refused before the start, 4 more failed images than --max-failed-share,
1 anything else.
"""

import dataclasses
import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from c3l_ray.config import GenerateConfig, RankedBy, SelectConfig, Within
from c3l_ray.dataset import select
from c3l_ray.runs import statistics
from c3l_ray.runs.folder import Output
from c3l_ray.errors import PreflightError
from c3l_ray.inference.model_check import check_clip, check_vlm, reply_format
from c3l_ray.identity import digest, facts
from c3l_ray.train.training_config import TrainConfig, Training, Tuned, Tuning
from jobs.command_line import main
from c3l_ray.workflows.records import absolute
from jobs.generate import generate
from jobs.train import MODEL, train


@dataclass(frozen=True, kw_only=True)
class C3LConfig(GenerateConfig):
    """Shards of images in, the best of two or more rounds of turns out."""

    output: str
    """Folder for the stages, local or s3://. The same command resumes there."""
    rounds: int = 1
    """Trainings; each is followed by a generation with the model that it tuned."""
    keep: float = 5000
    """Turns to keep (the paper's 5k), or at most 1, their share."""
    by: RankedBy = "i2c"
    """The score that ranks them."""
    within: Within = "dataset"
    """Rank raw scores, or standings inside kinds, or inside kinds and lengths."""
    tuning: Tuning = field(default_factory=Tuning)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds < 0:
            raise PreflightError(f"--rounds {self.rounds}: must be at least 0")
        if not self.images:
            raise PreflightError("--no-images: training needs the images in the records")
        if self.keep <= 0 or (self.keep > 1 and self.keep != int(self.keep)):
            raise PreflightError(f"--keep {self.keep}: must be a number of turns or a share in (0, 1]")


def c3l(config: C3LConfig) -> None:
    """The job. Raises C3LError, whose exit status says which kind of end it was."""
    config = absolute(config)
    output = Output(config.output)
    if config.reply_format == "auto":
        config = dataclasses.replace(config, reply_format=reply_format(config.model.name))
    made_by = about(config)
    output.claim(digest(made_by), made_by)
    from c3l_ray.distributed import cluster

    workers, pools = config.training.workers, config.pools
    cluster.connect(max(pools.generators + pools.scorers, workers.num + workers.readers))
    report: dict[str, Any] = {
        "origin": digest(made_by),
        "facts": made_by,
        "config": dataclasses.asdict(config),
        "stages": {},
        "finished": None,
    }

    def stage(name: str, job: Callable[[], None]) -> None:
        """Runs a stage that an earlier command did not finish, and notes it in run.json."""
        done = Output(f"{config.output}/{name}").read_json("run.json")
        print(f"\n{name}: {'done already' if done and done['finished'] else 'begins'}", flush=True)
        if not (done and done["finished"]):
            job()
            done = Output(f"{config.output}/{name}").read_json("run.json")
        assert done is not None
        noted = {key: done.get(key) for key in ("origin", "finished", "seconds")}
        report["stages"][name] = noted
        output.write_json("run.json", report)

    theta = config.model.name
    for number in range(config.rounds + 1):
        written = f"round-{number}"
        stage(written, lambda: generate(_generation(config, theta, written)))  # noqa: B023
        report["stages"][written]["turns"] = statistics.described(Output(f"{config.output}/{written}"))
        if number < config.rounds:
            tuned = f"train-{number}"
            stage(tuned, lambda: train(_training(config, theta, written, tuned)))  # noqa: B023
            theta = f"{config.output}/{tuned}/{MODEL}"
    selection = select.select(_selection(config))
    report["stages"]["dataset"] = selection
    report["finished"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    output.write_json("run.json", report)
    print(closing_summary(report, config.output))


def about(config: C3LConfig) -> dict[str, Any]:
    """What defines the dataset: all that defines the first round, the trainings and the choice."""
    model = check_vlm("--model.name", config.model.name)
    scorer = config.scorer.name
    training = dataclasses.asdict(config.training)
    passing = ("workers", "progress", "verify", "max_pixels")
    return {
        "job": "c3l",
        "round": facts(
            config,
            model=model,
            scorer=model if scorer is None else check_vlm("--scorer.name", scorer),
            clip=check_clip(config.clip.name, config.clip.weights),
        ),
        "tuning": dataclasses.asdict(config.tuning),
        "training": {name: value for name, value in training.items() if name not in passing},
        "rounds": config.rounds,
        "keep": config.keep,
        "by": config.by,
        "within": config.within,
    }


def _generation(config: C3LConfig, theta: str, name: str) -> GenerateConfig:
    """A round of generation by theta, scored by the model as it came, whatever theta is by then."""
    shared = {each.name: getattr(config, each.name) for each in dataclasses.fields(GenerateConfig)}
    return GenerateConfig(
        **{
            **shared,
            "output": f"{config.output}/{name}",
            "model": dataclasses.replace(config.model, name=theta),
            "scorer": dataclasses.replace(config.scorer, name=config.scorer_name),
        }
    )


def _training(config: C3LConfig, theta: str, learnt_from: str, name: str) -> TrainConfig:
    shared = {
        each.name: getattr(config.training, each.name) for each in dataclasses.fields(Training)
    }
    return TrainConfig(
        **{
            **shared,
            "input": (f"{config.output}/{learnt_from}",),
            "output": f"{config.output}/{name}",
            "model": Tuned(name=theta, **dataclasses.asdict(config.tuning)),
            "max_pixels": config.max_pixels,
        }
    )


def _selection(config: C3LConfig) -> SelectConfig:
    return SelectConfig(
        input=f"{config.output}/round-{config.rounds}",
        output=f"{config.output}/dataset",
        top=config.keep,
        by=config.by,
        within=config.within,
    )


def closing_summary(report: dict[str, Any], output: str) -> str:
    """What each round wrote, and what was kept of the last."""
    lines = ["", f"{'round':<12}{'turns':>9}{'questions':>11}{'kinds':>7}{'i2c':>9}{'gain':>9}"]
    for name, stage in report["stages"].items():
        if "turns" in stage and name != "dataset":
            found = stage["turns"]
            means = "".join(
                f"{found[score]:>9.3f}" if found[score] is not None else f"{'-':>9}"
                for score in ("i2c", "gain")
            )
            counts = f"{found['turns']:>9}{found['questions']:>11}{found['kinds']:>7}"
            lines.append(f"{name:<12}{counts}{means}")
    kept = report["stages"]["dataset"]
    return "\n".join(
        [
            *lines,
            f"\nkept {kept['turns']} of {kept['turns_scored']} scored turns of the last round by "
            f"{kept['by']} ({kept['images']} images)",
            f"  dataset  {os.path.join(output, 'dataset')}/part-*.parquet",
            f"  LLaVA    {os.path.join(output, 'dataset', 'llava.json')}",
            f"  report   {os.path.join(output, 'run.json')}",
        ]
    )


if __name__ == "__main__":
    main(C3LConfig, c3l, __doc__ or "")
