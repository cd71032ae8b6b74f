"""Evaluates models on benchmarks, and runs over scenes whose truth is known.

    python -m jobs.evaluate benchmark --model.name MODEL --benchmark pope \\
        --data coco_pope --image-root val2014 --output runs/pope
    python -m jobs.evaluate make-pope --annotations objects.jsonl --output pope
    python -m jobs.evaluate rounds RUN RUN ...
    python -m jobs.evaluate corrections RUN
    python -m jobs.evaluate world

benchmark asks a model the questions of a benchmark's official files, and
measures its answers; --against compares them with another model's. It requires
--benchmark, --data, --output and --model.name. Interrupted it resumes: run the
same command again. make-pope writes such questions for images whose objects
are known, or for scenes.

What --data of benchmark names, local or on S3:

    pope        folder with *pope_random.json, *pope_popular.json and
                *pope_adversarial.json, or one of them; images: --image-root
    mme         folder with MME's folders, such as existence and color, and
                in them texts of questions and images
    mmbench     a .tsv with answers, such as MMBench_DEV_EN.tsv, and images
    scienceqa   problems.json, or its folder; images: in images/test beside it,
                or --image-root
    seed-bench  SEED-Bench.json, or its folder; images: --image-root

rounds compares runs, such as the rounds of jobs.c3l: how much of each is true,
how varied its questions are, and what various scores would keep. corrections
judges the answers of a run before and after their correction. world measures
the models that come with the package.

Exit status: 0 finished, 2 refused before the start, 4 more questions that could
not be asked than --max-failed-share, 5 stopped by --max-hours or --max-price,
130 by Ctrl-C, 143 by SIGTERM, 1 any other failure.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import tyro

from c3l_ray.benchmark_config import BenchmarkConfig
from c3l_ray.errors import PreflightError
from c3l_ray.flags import optional, shown_first
from c3l_ray.ranges import Range, check_config
from c3l_ray.scenes.world import CLIP, LLAVA
from jobs.command_line import AFRESH, RESUME, main


@dataclass(frozen=True, kw_only=True)
class RoundsConfig:
    """Compare the turns of several runs."""

    runs: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Output folders of jobs.generate; the others are compared with the first."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise PreflightError("RUN: name at least one run")


@dataclass(frozen=True, kw_only=True)
class CorrectionsConfig:
    """Judge the answers of a run before and after their correction."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Output folder of jobs.generate with --correct or --method vigc."""


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Measure the models that come with the package."""

    llava: Path = LLAVA
    """Folder of the tiny LLaVA."""
    clip: Path = CLIP
    """Folder of the tiny CLIP."""
    num_scenes: Annotated[int, Range(min=1)] = 400
    """Scenes of each world, biased and unbiased; the LLaVA writes five turns about each."""
    num_ranked: Annotated[int, Range(min=1)] = 480
    """Scenes whose descriptions CLIP ranks."""
    temperature: Annotated[float, Range(min=0)] = 0.7
    """Sampling temperature; 0 always takes the likeliest token."""

    def __post_init__(self) -> None:
        check_config(self)


@shown_first("output")
@dataclass(frozen=True, kw_only=True)
class MakePopeConfig:
    """Write questions as POPE's for images whose objects are known."""

    annotations: Annotated[str | None, optional("FILE")] = None
    """JSON Lines of image and objects, or a JSON object of lists of objects by image."""
    scenes: Annotated[int | None, Range(min=1), optional("INT")] = None
    """Scenes to draw in place of annotations; their images are written too."""
    output: str
    """Folder for the files of the three strategies, local or s3://."""
    world: Literal["biased", "unbiased", "held-out"] = "biased"
    """World that scenes are drawn from; adversarial questions follow its bias."""
    objects_per_image: Annotated[int, Range(min=1)] = 3
    """Objects to ask for that an image has, and as many that it has not."""
    template: Annotated[str | None, optional("STR")] = None
    """Question with {object} or {a object} in it (default: POPE's; of scenes 'Is there a ...?')."""
    seed: Annotated[int, Range(min=0)] = 0
    """Seed of random choices; with another one other scenes are drawn."""

    def __post_init__(self) -> None:
        check_config(self)
        if (self.annotations is None) == (self.scenes is None):
            raise PreflightError("--annotations, --scenes: give one of both")


EvaluateConfig = (
    Annotated[BenchmarkConfig, tyro.conf.subcommand("benchmark")]
    | Annotated[MakePopeConfig, tyro.conf.subcommand("make-pope")]
    | Annotated[RoundsConfig, tyro.conf.subcommand("rounds")]
    | Annotated[CorrectionsConfig, tyro.conf.subcommand("corrections")]
    | Annotated[WorldConfig, tyro.conf.subcommand("world")]
)


def run(
    config: BenchmarkConfig | MakePopeConfig | RoundsConfig | CorrectionsConfig | WorldConfig,
) -> None:
    """Evaluates, and prints the report."""
    match config:
        case BenchmarkConfig():
            from c3l_ray.benchmarks.tables import format_result
            from c3l_ray.workflows.benchmark import check_failed_questions, run_benchmark

            result = run_benchmark(config)
            print(format_result(result, config.output))
            check_failed_questions(result, config.max_failed_share)
        case MakePopeConfig():
            from c3l_ray.benchmarks.make_pope import make_pope

            print(make_pope(**vars(config)))
        case RoundsConfig():
            from c3l_ray.evaluation.rounds import compare_rounds

            print(compare_rounds(config.runs))
        case CorrectionsConfig():
            from c3l_ray.evaluation.corrections import report_corrections

            print(report_corrections(config.run))
        case WorldConfig():
            from c3l_ray.evaluation.shipped_world import measure_world

            print(measure_world(**vars(config)))


def run_command(program: str = "python -m jobs.evaluate") -> None:
    again = RESUME if "benchmark" in sys.argv[1:2] else AFRESH
    main(cast(type[Any], EvaluateConfig), run, __doc__, program, again=again)


if __name__ == "__main__":
    run_command()
