"""Compares the turns about scenes of several runs: what is true, what is asked, what scores keep.

The runs are outputs of jobs.generate over scenes, such as the rounds of jobs.c3l. A generator can
seem better by asking easier questions. So the table says how varied the questions are, and how much
of a run would be true if it asked what the first one asked.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from c3l_ray.dataset.choose import choose_turns
from c3l_ray.dataset.chosen_records import read_chosen
from c3l_ray.errors import PreflightError
from c3l_ray.evaluation.differences import compare_true_shares
from c3l_ray.evaluation.judgement import JudgedTurn, judge_run, judge_turns, true_share
from c3l_ray.methods.c3l import KINDS
from c3l_ray.methods.scores import RankedBy
from c3l_ray.runs.commit import Manifest, read_manifests
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes.truth import TRUE, question_form
from c3l_ray.select_config import SelectConfig, Within

RANKED_BY: tuple[RankedBy, ...] = (
    *("i2c", "i2c_vocab", "gain", "visual_ifd", "grounding"),
    *("image_logprob", "clip", "random"),
)
WITHIN: tuple[Within, ...] = ("dataset", "kind")
TOP = 0.1


def compare_rounds(paths: Sequence[str]) -> str:
    """The runs as the columns of a table.

    Args:
        paths: of the runs; the others are compared with the first.

    Raises:
        PreflightError: a path is no run, or the run contains no turns about scenes.
    """
    folders = [RunFolder.open(path, "RUN") for path in paths]
    for folder in folders:
        folder.read_run()
    runs = [[turn for turn in judge_run(folder) if turn.truth is not None] for folder in folders]
    for path, turns in zip(paths, runs, strict=True):
        if not turns:
            raise PreflightError(
                f"{path}: contains no turns about scenes; this report needs the synthetic world"
            )
    names = [PurePosixPath(path).name for path in paths]
    return "\n".join([*_truth_rows(names, runs), "", *_ranking_rows(folders)])


def _truth_rows(names: Sequence[str], runs: Sequence[Sequence[JudgedTurn]]) -> list[str]:
    """How much of each run is true, in all and by kind, and how varied its questions are."""

    def format_row(label: str, format_cell: Callable[[Sequence[JudgedTurn]], str]) -> str:
        return _format_row(label, map(format_cell, runs))

    rows = [
        _format_row("", names),
        format_row("turns about scenes", lambda turns: str(len(turns))),
        format_row("true", lambda turns: _format_share(true_share(turns))),
        _format_row(
            f"  less that of {names[0]}",
            ["", *(f"{compare_true_shares(turns, runs[0])}" for turns in runs[1:])],
        ),
    ]
    for kind in KINDS:
        same_kind = [[turn for turn in turns if turn.turn["kind"] == kind] for turns in runs]
        if any(same_kind):
            shares = [_format_share(true_share(turns)) for turns in same_kind]
            rows.append(_format_row(f"  {kind}", shares))
    return [
        *rows,
        format_row(
            f"  asked as in {names[0]}",
            lambda turns: _format_share(reweighted_true_share(turns, runs[0])),
        ),
        format_row("distinct questions", lambda turns: str(count_distinct_questions(turns))),
        format_row("forms of question", lambda turns: f"{effective_num_forms(turns):.1f}"),
    ]


def _ranking_rows(folders: Sequence[RunFolder]) -> list[str]:
    """How much is true of the turns that each ranking would keep, of all turns and of each kind."""
    manifests = [
        {manifest.unit: manifest for manifest in read_manifests(folder) if manifest.file}
        for folder in folders
    ]
    rows = [f"true of the top {TOP:.0%}, of all turns and of each kind"]
    for by in RANKED_BY:
        cells = []
        for folder, manifests_of_run in zip(folders, manifests, strict=True):
            selections = (
                judge_selection(folder, manifests_of_run, by, within) for within in WITHIN
            )
            shares = (_format_share(true_share(turns)) for turns in selections)
            cells.append(" ".join(f"{share:>8}" for share in shares))
        rows.append(_format_row(f"  by {by}", cells))
    return rows


def judge_selection(
    folder: RunFolder, manifests: Mapping[str, Manifest], by: RankedBy, within: Within
) -> list[JudgedTurn]:
    """Judges the turns of a run that a selection would keep.

    Args:
        folder: of the run.
        manifests: of its files, by unit.
        by: the score that ranks the turns.
        within: what turns are ranked among.
    """
    # What is judged is the score alone.
    config = SelectConfig(input=folder.path, by=by, within=within, top=TOP, require_gain=False)
    try:
        choice = choose_turns(folder, manifests, config).choice
    except PreflightError:  # no turn has the score
        return []
    chosen = read_chosen(folder, manifests, choice)
    return list(judge_turns(records.table for records in chosen))


def reweighted_true_share(turns: Iterable[JudgedTurn], reference: Iterable[JudgedTurn]) -> float:
    """The true share of turns if their forms of question came as often as in a reference.

    The share of each form is taken from the turns, its weight from the reference. A form that the
    turns never ask is left out.
    """
    is_true: dict[str, list[bool]] = defaultdict(list)
    for turn in turns:
        is_true[_form_of(turn)].append(turn.truth == TRUE)
    weights = Counter(_form_of(turn) for turn in reference)
    common_forms = [form for form in weights if form in is_true]
    total_weight = sum(weights[form] for form in common_forms)
    if not total_weight:
        return math.nan
    shares = (weights[form] * sum(is_true[form]) / len(is_true[form]) for form in common_forms)
    return sum(shares) / total_weight


def effective_num_forms(turns: Iterable[JudgedTurn]) -> float:
    """How many forms of question are asked, where rare forms count little.

    It is the exponential of the entropy of their shares.
    """
    counts = Counter(_form_of(turn) for turn in turns)
    total = counts.total()
    return math.exp(-sum(n / total * math.log(n / total) for n in counts.values()))


def count_distinct_questions(turns: Iterable[JudgedTurn]) -> int:
    return len({turn.turn["question"] for turn in turns})


def _form_of(turn: JudgedTurn) -> str:
    question = turn.turn["question"] or ""
    return f"{turn.turn['kind']} {question_form(question) or question}"


def _format_row(label: str, cells: Iterable[str]) -> str:
    return f"{label:<24}" + "".join(f"{cell:>20}" for cell in cells)


def _format_share(share: float | None) -> str:
    return "-" if share is None or math.isnan(share) else f"{100 * share:.1f} %"
