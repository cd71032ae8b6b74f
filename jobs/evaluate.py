"""Evaluates runs over the synthetic world of scenes, whose truth is known.

    python -m jobs.evaluate rounds RUN RUN ...
    python -m jobs.evaluate corrections RUN
    python -m jobs.evaluate world

rounds compares runs, such as the rounds of jobs.c3l: how much of each is true,
how varied its questions are, and what various scores would keep. corrections
judges the answers of a run before and after their correction. world measures
the models that come with the package.

Exit status: 0 finished, 2 refused before the start, 130 stopped by Ctrl-C, 143
by SIGTERM, 1 any other failure.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import tyro

from c3l_ray.errors import PreflightError
from c3l_ray.ranges import Range, check_config
from c3l_ray.scenes.world import CLIP, LLAVA
from jobs.command_line import AFRESH, main


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


EvaluateConfig = (
    Annotated[RoundsConfig, tyro.conf.subcommand("rounds")]
    | Annotated[CorrectionsConfig, tyro.conf.subcommand("corrections")]
    | Annotated[WorldConfig, tyro.conf.subcommand("world")]
)


def run(config: RoundsConfig | CorrectionsConfig | WorldConfig) -> None:
    """Evaluates, and prints the report."""
    match config:
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
    main(cast(type[Any], EvaluateConfig), run, __doc__, program, again=AFRESH)


if __name__ == "__main__":
    run_command()
