"""The turns about scenes of several runs side by side: what is true, what is asked, what is kept.

    python -m c3l_ray.evaluation.rounds RUN RUN ...

Each RUN is the output of a jobs.generate run over scenes, such as the rounds of jobs.c3l. A
generator can seem better by asking easier questions; so the table says how varied questions are,
and how much of a run would be true if it asked what the first one asked.
"""

import argparse
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

import pyarrow as pa

from c3l_ray.config import RankedBy, SelectConfig, Within
from c3l_ray.runs.folder import Manifest, Output
from c3l_ray.dataset.select import choose, parts
from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.evaluation.judgement import Judged, judged, truthful_share
from c3l_ray.methods.c3l import KINDS
from c3l_ray.scenes.truth import TRUE, question_form

RANKINGS: tuple[RankedBy, ...] = (
    *("i2c", "i2c_vocab", "gain", "visual_ifd"),
    *("image_logprob", "clip", "random"),
)
WITHIN: tuple[Within, ...] = ("dataset", "kind")
TOP = 0.1


def records(output: Output) -> Iterator[pa.Table]:
    return (output.records(manifest) for manifest in output.manifests() if manifest.file)


def table(paths: Sequence[str]) -> str:
    """The runs as the columns of a table.

    Args:
        paths: of the runs; the first is what the others are compared with.

    Raises:
        PreflightError: one of them holds no turns about scenes.
    """
    runs = [Output(path, "RUN") for path in paths]
    turns = [_about_scenes(judged(records(run))) for run in runs]
    for path, of_run in zip(paths, turns, strict=True):
        if not of_run:
            raise PreflightError(f"RUN {path}: holds no good turn about a scene")
    names = [PurePosixPath(path).name for path in paths]
    lines = [_line("", names), _line("turns about scenes", [str(len(each)) for each in turns])]
    lines.append(_line("true", [_percent(truthful_share(each)) for each in turns]))
    for kind in KINDS:
        of_kind = [[turn for turn in each if turn.turn["kind"] == kind] for each in turns]
        if any(of_kind):
            lines.append(_line(f"  {kind}", [_percent(truthful_share(each)) for each in of_kind]))
    asked_first = [_percent(true_if_asked(each, turns[0])) for each in turns]
    lines += [
        _line(f"  asked as in {names[0]}", asked_first),
        _line("distinct questions", [str(_distinct(each)) for each in turns]),
        _line("forms of question", [f"{num_forms(each):.1f}" for each in turns]),
    ]
    lines += ["", f"true of the top {TOP:.0%}, of all turns and of each kind"]
    files = [{each.unit: each for each in run.manifests() if each.file} for run in runs]
    for by in RANKINGS:
        cells = []
        for run, its_files in zip(runs, files, strict=True):
            kept = (selected(run, its_files, by, within) for within in WITHIN)
            shares = (_percent(truthful_share(each)) for each in kept)
            cells.append(" ".join(f"{share:>8}" for share in shares))
        lines.append(_line(f"  by {by}", cells))
    return "\n".join(lines)


def selected(
    run: Output, manifests: dict[str, Manifest], by: RankedBy, within: Within
) -> list[Judged]:
    """The turns of a run, with its files by their units, that a selection would keep."""
    config = SelectConfig(input=run.path, by=by, within=within, top=TOP)
    choice, _, _ = choose(run, manifests, config)
    return list(judged(parts(run, manifests, choice)))


def true_if_asked(turns: Iterable[Judged], as_in: Iterable[Judged]) -> float:
    """The true share of turns if forms of question came as often as in others.

    The share of each form is taken from the turns, its weight from the others; a form that the
    turns never ask is left out.
    """
    num_true: dict[str, list[bool]] = defaultdict(list)
    for turn in turns:
        num_true[_form(turn)].append(turn.truth == TRUE)
    weights = Counter(_form(turn) for turn in as_in)
    common = [form for form in weights if form in num_true]
    total = sum(weights[form] for form in common)
    if not total:
        return math.nan
    shares = (weights[form] * sum(num_true[form]) / len(num_true[form]) for form in common)
    return sum(shares) / total


def num_forms(turns: Iterable[Judged]) -> float:
    """How many forms of question are asked; rare ones count little.

    It is the exponential of the entropy of their shares.
    """
    counts = Counter(_form(turn) for turn in turns)
    total = counts.total()
    return math.exp(-sum(n / total * math.log(n / total) for n in counts.values()))


def _form(turn: Judged) -> str:
    question = turn.turn["question"]
    return f"{turn.turn['kind']} {question_form(question) or question}"


def _distinct(turns: Iterable[Judged]) -> int:
    return len({turn.turn["question"] for turn in turns})


def _about_scenes(turns: Iterable[Judged]) -> list[Judged]:
    return [turn for turn in turns if turn.truth is not None]


def _line(name: str, cells: Iterable[str]) -> str:
    return f"{name:<24}" + "".join(f"{cell:>20}" for cell in cells)


def _percent(share: float | None) -> str:
    return "-" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output of a jobs.generate run")
    try:
        print(table(parser.parse_args().runs))
    except C3LError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
