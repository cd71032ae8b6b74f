"""Shows what jobs made as one HTML page, which needs no network.

    python -m jobs.report runs/mine runs/best

Reads output folders of jobs.generate, jobs.score, jobs.answer, jobs.train,
jobs.select, jobs.c3l and jobs.evaluate benchmark, local or on S3, finished or
not. Of several runs, and of the rounds of jobs.c3l, the page shows one beside
the other.

The page has the models and prompts, the counts, failed images with what helps,
notes, histograms of the scores, the best, middling and worst turns of each kind
with their images, what a selection kept, the curves of a training, and figures
and mistakes of a benchmark. Of a large run it reads a sample, and says so.
Where a run was made with --token-gains and the scorer's tokenizer is on this
machine, the tokens of answers are tinted by what the image added to them.

Exit status: 0 finished, 2 refused before the start, 130 stopped by Ctrl-C, 143
by SIGTERM, 1 any other failure.
"""

from dataclasses import dataclass
from typing import Annotated

import tyro

from c3l_ray.errors import PreflightError
from c3l_ray.flags import optional
from c3l_ray.methods.scores import RankedBy
from c3l_ray.ranges import Conflicts, Range, check_config
from jobs.command_line import main


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Outputs of jobs in, a page about them out."""

    runs: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Output folders of jobs, local or s3://; a dataset belongs to the run it was selected from."""
    output: Annotated[str | None, optional("STR")] = None
    """File for the page, local or s3:// (default: `report.html` in the first RUN)."""
    by: Annotated[RankedBy | None, optional("SCORE")] = None
    """Score that ranks the turns shown (default: that of the latest selection, or grounding)."""
    max_turns: Annotated[int, Range(min=1, max=1000)] = 240
    """Turns to show with their images, of all runs together."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise PreflightError("RUN: name at least one output folder")
        check_config(self)

    def conflicts(self) -> Conflicts:
        if self.by == "random":
            yield "by", "is no score of a turn"


def run(config: ReportConfig) -> None:
    """Writes the page and prints where it lies."""
    from c3l_ray.workflows.report import write_report

    page = write_report(config.runs, output=config.output, by=config.by, max_turns=config.max_turns)
    print(f"wrote {page}")


def run_command(program: str = "python -m jobs.report") -> None:
    main(ReportConfig, run, __doc__, program)


if __name__ == "__main__":
    run_command()
