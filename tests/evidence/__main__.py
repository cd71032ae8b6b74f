"""Measures the product's claims in the world of scenes: `python -m tests.evidence`.

Runs the stages that are not done, one after another, and writes the page and results.json from
those that are. An interrupted command goes on where it was: run it again.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from c3l_ray.errors import C3LError, PreflightError
from jobs.command_line import configure_process, run_to_exit
from tests.evidence.plan import QUESTIONS, SCALES, plan_stages
from tests.evidence.report import write_report
from tests.evidence.stages import Stage, Workplace, run_stages

SEEDS = (0, 1, 2)
PAGE_FOLDER = Path(__file__).parent
OUTPUTS = {"full": Path("runs/evidence"), "small": Path("runs/evidence-small")}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.evidence", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="the repetitions")
    parser.add_argument(
        "--output", type=Path, help="folder of the stages (default: runs/evidence, or -small)"
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(QUESTIONS), default=list(QUESTIONS), help="questions"
    )
    parser.add_argument("--arms", nargs="+", default=None, help="arms of these questions")
    parser.add_argument(
        "--scale",
        choices=list(SCALES),
        default="full",
        help="small proves in a few minutes that it works, and writes its page into the output",
    )
    parser.add_argument(
        "--page-only", action="store_true", help="run nothing, and write the page from what is done"
    )
    return parser.parse_args()


def choose_stages(options: argparse.Namespace, stages: Sequence[Stage]) -> list[Stage]:
    """The stages that were asked for.

    Raises:
        PreflightError: an arm that these questions do not have.
    """
    stages = [stage for stage in stages if stage.question in options.only]
    unknown = set(options.arms or ()) - {stage.arm for stage in stages}
    if unknown:
        names = ", ".join(dict.fromkeys(stage.arm for stage in stages))
        raise PreflightError(
            f"--arms {' '.join(sorted(unknown))}: no arm of these questions; they have {names}"
        )
    return [
        stage
        for stage in stages
        if stage.seed in options.seeds and (not options.arms or stage.arm in options.arms)
    ]


def run(options: argparse.Namespace) -> None:
    """Runs the stages and writes the page.

    Raises:
        PreflightError: as `choose_stages`.
        C3LError: a stage failed.
    """
    workplace = Workplace((options.output or OUTPUTS[options.scale]).absolute())
    # The page of the full scale has all repetitions, whichever this command runs.
    seeds = {*options.seeds, *(SEEDS if options.scale == "full" else ())}
    stages = plan_stages(workplace, sorted(seeds), SCALES[options.scale])
    asked = choose_stages(options, stages)
    failures = {} if options.page_only else run_stages(workplace, stages, asked)
    folder = PAGE_FOLDER if options.scale == "full" else workplace.output
    missing = write_report(workplace, stages, failures, folder)
    print(f"{len(stages) - len(missing)} of {len(stages)} stages are done; see {folder}/README.md")
    for stage in missing:
        print(f"  missing  {stage.name}: {failures.get(stage.name, 'not run')}")
    if failures:
        raise C3LError(f"{len(failures)} stages failed; run the same command again")


if __name__ == "__main__":
    configure_process()
    run_to_exit(lambda: run(parse_options()))
