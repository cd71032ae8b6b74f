"""The tables of the page, made from measures."""

import math
from collections.abc import Iterable, Mapping, Sequence

from c3l_ray.methods.c3l import KINDS
from tests.evidence import correction_stage, score_stage, student_stage
from tests.evidence.bootstrap import Interval
from tests.evidence.measures import Measure
from tests.evidence.tuning_stage import ARMS, UNTUNED
from tests.evidence.worlds import WORLDS

SCORES = score_stage.SCORES
COMPARED_SCORES = tuple(
    score
    for score in SCORES
    if score in ("min_logprob", "posed_logprob", "gain", "visual_ifd", "i2c", "grounding", "clip")
)

Found = Mapping[tuple[str, str], Measure]
"""By measure and group."""


def index_measures(measures: Iterable[Measure]) -> Found:
    return {(measure.measure, measure.group): measure for measure in measures}


def format_score_tables(found: Found) -> list[str]:
    """True shares of the worlds, areas under the curve by world, and what scores keep."""
    worlds = [world for world in WORLDS if ("true", f"{world}, all turns") in found]
    parts = [
        "True turns of the untuned model, in percent:",
        format_table(
            "turns",
            worlds,
            {
                group: [_percent(found, "true", f"{world}, {group}") for world in worlds]
                for group in ("all turns", *KINDS)
            },
        ),
    ]
    for title, group, suffix, scores in (
        ("Area under the curve, true against false, all turns:", "all turns", "", SCORES),
        (
            f"The same less that of `{score_stage.RIVAL}`, paired:",
            "all turns",
            f" less {score_stage.RIVAL}",
            COMPARED_SCORES,
        ),
        ("Within a kind (mean of the areas of the five kinds):", "within kind", "", SCORES),
        (
            f"Within a kind, less that of `{score_stage.RIVAL}`, paired:",
            "within kind",
            f" less {score_stage.RIVAL}",
            COMPARED_SCORES,
        ),
        (
            "True turns against those errors that the biased world's table explains:",
            "errors of the prior",
            "",
            COMPARED_SCORES,
        ),
        ("Within one question, answers sampled anew:", "within question", "", SCORES),
    ):
        rows = {
            f"`{score}`": [
                _number(found, f"area of {score}{suffix}", f"{world}, {group}") for world in worlds
            ]
            for score in scores
        }
        parts += _titled_table(title, "score", worlds, rows)
    tops = [f"{top:.0%}" for top in score_stage.TOPS]
    world = "unbiased"
    rows = {
        f"`{score}`": [
            *(_percent(found, f"true of top {t} by {score}", f"{world}, all turns") for t in tops),
            _percent(found, f"true of top 10% by {score}", f"{world}, within kind"),
        ]
        for score in SCORES
    }
    titles = [*(f"top {top}" for top in tops), "top 10% of each kind"]
    title = f"True turns among those that a score ranks highest, {world}, in percent:"
    parts += _titled_table(title, "score", titles, rows)
    group = f"{world}, within question"
    if ("some answer true", group) in found:
        chosen = {
            "an answer at random": "true of an answer at random",
            **{f"the best by `{score}`": f"true of the best by {score}" for score in SCORES},
            "some answer": "some answer true",
        }
        rows = {label: [_percent(found, measure, group)] for label, measure in chosen.items()}
        title = "Questions answered truly on unbiased scenes, in percent, by what is taken:"
        parts += _titled_table(title, "answer", ["true"], rows)
    return [*parts, "`results.json` has the other worlds and kinds."]


def format_tuning_tables(found: Found) -> list[str]:
    """Every arm, its differences from the untuned model, and what its turns are like."""
    arms = [arm for arm in ARMS if ("true, " + arm.name, "unbiased, own turns") in found]
    own = "unbiased, own turns"
    columns: dict[str, tuple[str, str]] = {
        "own turns": ("true, {}", own),
        "own less none": ("true, {} less none", own),
        "at none's forms": ("true if asked as untuned, {}", own),
        "T 0.7 less none": ("true, {} less none", "unbiased, fixed questions, T 0.7"),
        "greedy less none": ("true, {} less none", "unbiased, fixed questions, greedy"),
        "readable": ("readable, {}", own),
        "readable answers": ("readable, {}", "unbiased, fixed questions, T 0.7"),
        "of known form": ("of known form, {}", "unbiased, fixed questions, T 0.7"),
    }
    parts = [
        "Unbiased scenes, in percent; fixed questions are the untuned model's own:",
        _arm_table(found, [arm.name for arm in arms], columns),
    ]
    columns = {
        f"{world}, {decoding}": ("true, {} less none", f"{world}, fixed questions, {decoding}")
        for world in WORLDS
        for decoding in ("T 0.7", "greedy")
        if world != "unbiased"
        and (f"true, {UNTUNED}", f"{world}, fixed questions, {decoding}") in found
    }
    tuned = [arm.name for arm in arms if arm.name != UNTUNED]
    parts += [
        "Other worlds, fixed questions, less none, in points:",
        _arm_table(found, tuned, columns),
        "What the turns on unbiased scenes are like; bounds are given where scenes are resampled:",
        format_table(
            "tuned on",
            [
                *("distinct questions", "forms of question"),
                *("things described, %", "false sentences a description"),
            ],
            {
                f"`{arm.name}`": [
                    _number(found, f"distinct questions, {arm.name}", own, digits=0),
                    _number(found, f"forms of question, {arm.name}", own, digits=1),
                    _percent(found, f"things described, {arm.name}", f"{own}, detail"),
                    _number(
                        *(found, f"false sentences a description, {arm.name}", f"{own}, detail")
                    ),
                ]
                for arm in arms
            },
        ),
        "By kind, own turns true on unbiased scenes, in percent:",
        format_table(
            "tuned on",
            KINDS,
            {
                f"`{arm.name}`": [
                    _percent(found, f"true, {arm.name}", f"{own}, {kind}") for kind in KINDS
                ]
                for arm in arms
            },
        ),
        "Each repetition by itself, less none, in points:",
        format_table(
            "tuned on",
            ["own turns", "T 0.7", "greedy"],
            {
                f"`{name}`": [
                    _by_seed(found, f"true, {name} less none", group)
                    for group in (
                        *(own, "unbiased, fixed questions, T 0.7"),
                        "unbiased, fixed questions, greedy",
                    )
                ]
                for name in tuned
            },
        ),
        "The arms:",
        "\n".join(f"- `{arm.name}`: {arm.description}" for arm in ARMS),
    ]
    return parts


def format_correction_tables(found: Found) -> list[str]:
    """By drafts, sentences by their place and whole answers by kind, before and after."""
    parts = []
    places = [f"sentence {place + 1}" for place in range(correction_stage.LAST_PLACE)]
    labels = [*places, "all sentences", *(f"whole answers, {kind}" for kind in ("all", *KINDS))]
    for arm in correction_stage.ARMS:
        rows = {}
        for label in labels:
            group = f"{arm} drafts, {label}"
            if ("draft true", group) in found:
                rows[label] = [
                    str(found["draft true", group].num_items),
                    _percent(found, "draft true", group),
                    str(found["corrected answer true", group].num_items),
                    _percent(found, "corrected answer true", group),
                    _percent(found, "corrected less draft", group),
                ]
        titles = ["drafts", "true, %", "answers", "true, %", "difference"]
        parts += _titled_table(f"Drafts {arm}, sentences of descriptions:", "", titles, rows)
    return parts


def format_student_tables(found: Found) -> list[str]:
    """Every student's accuracy and F1, and its difference from the random control."""
    columns = {
        "questions": ("true, {}", "questions of all kinds"),
        "less random": (f"true, {{}} less {student_stage.RANDOM}", "questions of all kinds"),
        "presence": ("true, {}", "presence"),
        "F1": ("F1, {}", "presence"),
        "F1 less random": (f"F1, {{}} less {student_stage.RANDOM}", "presence"),
    }
    students = [
        student
        for student in student_stage.STUDENTS
        if (f"F1, {student.name}", "presence") in found
    ]
    names = [student.name for student in students]
    return [
        "Greedy answers to bare questions about unbiased scenes, in percent; presence asks whether "
        "a thing is there, as POPE does, and F1 takes yes as the positive answer:",
        _arm_table(found, names, columns),
        "The students:",
        "\n".join(f"- `{student.name}`: {student.description}" for student in students),
    ]


def format_table(corner: str, titles: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A table in Markdown, its numbers to the right."""
    lines = [f"| {corner} | {' | '.join(titles)} |", "| --- |" + " ---: |" * len(titles)]
    lines += [f"| {label} | {' | '.join(cells)} |" for label, cells in rows.items()]
    return "\n".join(lines)


def format_interval(interval: Interval, *, digits: int, scale: float = 1.0) -> str:
    """The estimate and its bounds, as 81.4 [80.2, 82.5]; a dash where there is no number."""
    if math.isnan(interval.estimate):
        return "-"
    estimate = f"{scale * interval.estimate:.{digits}f}"
    if math.isnan(interval.low):
        return estimate
    bounds = (f"{scale * bound:.{digits}f}" for bound in (interval.low, interval.high))
    return f"{estimate} [{', '.join(bounds)}]"


def _titled_table(
    title: str, corner: str, titles: Sequence[str], rows: Mapping[str, Sequence[str]]
) -> list[str]:
    """A title and a table of the rows that have a number; nothing where none has."""
    filled = {label: cells for label, cells in rows.items() if any(cell != "-" for cell in cells)}
    return [title, format_table(corner, titles, filled)] if filled else []


def _arm_table(found: Found, arms: Sequence[str], columns: Mapping[str, tuple[str, str]]) -> str:
    return format_table(
        "tuned on",
        list(columns),
        {
            f"`{arm}`": [
                _percent(found, measure.format(arm), group) for measure, group in columns.values()
            ]
            for arm in arms
        },
    )


def _percent(found: Found, measure: str, group: str) -> str:
    return _number(found, measure, group, digits=1, scale=100)


def _number(found: Found, measure: str, group: str, *, digits: int = 2, scale: float = 1.0) -> str:
    one = found.get((measure, group))
    return "-" if one is None else format_interval(one.interval, digits=digits, scale=scale)


def _by_seed(found: Found, measure: str, group: str) -> str:
    one = found.get((measure, group))
    return "-" if one is None else ", ".join(f"{100 * value:+.1f}" for value in one.by_seed)
