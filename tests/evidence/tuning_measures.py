"""What the arms of the tuning come to: each arm, and its difference from the untuned model."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from c3l_ray.methods.c3l import KINDS
from c3l_ray.scenes.truth import TRUE, UNKNOWN, question_form
from tests.evidence.bootstrap import Clusters, Floats, Interval, divide, share
from tests.evidence.measures import (
    Measure,
    Row,
    Statistic,
    difference_of,
    draw_scenes,
    list_seeds,
    mark_sides,
    measure_rows,
    pool_rows,
    share_of,
)
from tests.evidence.stages import StageResult
from tests.evidence.tuning_stage import ARMS, QUESTION, UNTUNED
from tests.evidence.worlds import WORLDS

Sides = tuple[list[Row], list[Row]]
"""The rows of an arm, and those of the untuned model."""

BETWEEN_ARMS = (
    ("pairs_best", "answers_best"),
    ("answers_two_rounds", "answers_best"),
    ("answers_best", "answers_confidence"),
    ("answers_best", "answers_random"),
    ("pairs_best", "pairs_random"),
    ("answers_true", "answers_best"),
)
"""Arms that are compared with each other, the second taken from the first."""


def summarize_tuning(results: Sequence[StageResult]) -> list[Measure]:
    """The measures of every arm that was run, over the repetitions that it has."""
    by_arm = {
        arm.name: [result for result in results if result.stage.arm == arm.name] for arm in ARMS
    }
    measures: list[Measure] = []
    for arm, of_arm in by_arm.items():
        if not of_arm:
            continue
        seeds = {result.stage.seed for result in of_arm}
        untuned = [result for result in by_arm[UNTUNED] if result.stage.seed in seeds]
        measures += _summarize_arm(arm, of_arm, untuned)
    for arm, other in BETWEEN_ARMS:
        seeds = {result.stage.seed for result in by_arm[arm]} & {
            result.stage.seed for result in by_arm[other]
        }
        sides = [
            [result for result in by_arm[name] if result.stage.seed in seeds]
            for name in (arm, other)
        ]
        if seeds:
            measures += _compare_arms(arm, sides[0], other, sides[1])
    return measures


def _compare_arms(
    arm: str, results: Sequence[StageResult], other: str, of_other: Sequence[StageResult]
) -> Iterator[Measure]:
    """What an arm is truer by than another, on the same unbiased scenes."""
    for part, greedy, group in (
        ("own", None, "unbiased, own turns"),
        ("fixed", False, "unbiased, fixed questions, T 0.7"),
        ("fixed", True, "unbiased, fixed questions, greedy"),
    ):
        rows, before = (
            [
                row
                for row in pool_rows(side, part)
                if row["world"] == "unbiased" and row.get("greedy") == greedy
            ]
            for side in (results, of_other)
        )
        yield measure_rows(
            *(QUESTION, f"true, {arm} less {other}", group),
            mark_sides(before, rows),
            difference_of(share_of(_is_true)),
            draw_scenes([*rows, *before]),
        )


def _summarize_arm(
    arm: str, results: Sequence[StageResult], untuned: Sequence[StageResult]
) -> Iterator[Measure]:
    own: Sides = pool_rows(results, "own"), pool_rows(untuned, "own")
    fixed: Sides = pool_rows(results, "fixed"), pool_rows(untuned, "fixed")
    for world in WORLDS:
        of_world = _keep(own, lambda row: row["world"] == world)  # noqa: B023
        if not of_world[0]:
            continue
        clusters = draw_scenes([*of_world[0], *of_world[1]])
        usable = _keep(of_world, _is_usable)
        group = f"{world}, own turns"
        yield from _compare(arm, group, "true", of_world, _is_true, clusters)
        yield from _compare(arm, group, "readable", of_world, _is_readable, clusters)
        for is_greedy, decoding in ((False, "T 0.7"), (True, "greedy")):
            answers = _keep(
                fixed,
                lambda row: row["world"] == world and row["greedy"] == is_greedy,  # noqa: B023
            )
            group = f"{world}, fixed questions, {decoding}"
            yield from _compare(arm, group, "true", answers, _is_true, clusters)
            yield from _compare(arm, group, "readable", answers, _is_readable_answer, clusters)
            yield from _compare(arm, group, "of known form", answers, _has_known_form, clusters)
        if world == "unbiased":
            yield from _describe_own_turns(arm, usable, clusters)


def _describe_own_turns(arm: str, sides: Sides, clusters: Clusters) -> Iterator[Measure]:
    """Kinds, what descriptions cover, and how varied the questions are, on unbiased scenes."""
    group = "unbiased, own turns"
    for kind in KINDS:
        of_kind = _keep(sides, lambda row: row["kind"] == kind)  # noqa: B023
        yield from _compare(arm, f"{group}, {kind}", "true", of_kind, _is_true, clusters)
    rows, before = sides
    as_before = _reweighted_share(Counter(_form_of(row) for row in before))
    yield _measure(arm, group, "true if asked as untuned", rows, as_before, clusters)
    details = _keep(sides, lambda row: "covered" in row)
    for name, value in (
        ("things described", _share_described),
        ("false sentences a description", _count_false_sentences),
    ):
        yield from _compare(arm, f"{group}, detail", name, details, value, clusters)
    for name, count in (
        ("distinct questions", _count_distinct_questions),
        ("forms of question", _count_forms),
    ):
        by_seed = tuple(
            float(count([row for row in rows if row["seed"] == seed])) for seed in list_seeds(rows)
        )
        yield Measure(
            question=QUESTION,
            measure=f"{name}, {arm}",
            group=group,
            interval=Interval(estimate=float(np.mean(by_seed)), low=math.nan, high=math.nan),
            seeds=list_seeds(rows),
            by_seed=by_seed,
            num_items=len(rows),
        )


def _keep(sides: Sides, is_kept: Callable[[Row], bool]) -> Sides:
    rows, before = sides
    return list(filter(is_kept, rows)), list(filter(is_kept, before))


def _compare(
    arm: str,
    group: str,
    name: str,
    sides: Sides,
    value: Callable[[Row], float],
    clusters: Clusters,
) -> Iterator[Measure]:
    """An arm's share, and its difference from the untuned model's on the same scenes."""
    rows, before = sides
    if not rows:
        return
    yield _measure(arm, group, name, rows, share_of(value), clusters)
    if arm != UNTUNED and before:
        yield measure_rows(
            *(QUESTION, f"{name}, {arm} less {UNTUNED}", group),
            mark_sides(before, rows),
            difference_of(share_of(value)),
            clusters,
        )


def _measure(
    arm: str,
    group: str,
    name: str,
    rows: Sequence[Row],
    statistic: Statistic,
    clusters: Clusters,
) -> Measure:
    return measure_rows(QUESTION, f"{name}, {arm}", group, rows, statistic, clusters)


def _is_usable(row: Row) -> bool:
    return bool(row["status"] == "ok")


def _is_true(row: Row) -> bool:
    """Unknown and unreadable answers count as not true, and so does a turn that repeats another."""
    return bool(
        row["truth"] == TRUE and row.get("readable", True) and row.get("status", "ok") == "ok"
    )


def _is_readable(row: Row) -> bool:
    """A question that the image had before can be read, and is no turn of its own."""
    return row["status"] in ("ok", "duplicate")


def _is_readable_answer(row: Row) -> bool:
    return bool(row["readable"])


def _has_known_form(row: Row) -> bool:
    """Whether the answer is in the language of scenes, true or false."""
    return bool(row["truth"] != UNKNOWN)


def _share_described(row: Row) -> float:
    """The share of a scene's things that its description names in full."""
    return float(row["covered"] / row["things"])


def _count_false_sentences(row: Row) -> float:
    return float(row["false_sentences"])


def _form_of(row: Row) -> str:
    question = row["question"] or ""
    return f"{row['kind']} {question_form(question) or question}"


def _reweighted_share(form_weights: Counter[str]) -> Statistic:
    """The true share if forms came as often as in other turns; forms never asked are left out."""

    def statistic(weights: Floats, rows: Sequence[Row]) -> Floats:
        places: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(_form_of(row), []).append(place)
        total, weight_sum = np.zeros(len(weights)), np.zeros(len(weights))
        for form, weight in form_weights.items():
            if form not in places:
                continue
            of_form = share(
                weights[:, places[form]], [_is_true(rows[place]) for place in places[form]]
            )
            is_drawn = np.isfinite(of_form)
            total += weight * np.where(is_drawn, of_form, 0)
            weight_sum += weight * is_drawn
        return divide(total, weight_sum)

    return statistic


def _count_distinct_questions(rows: Sequence[Row]) -> int:
    return len({row["question"] for row in rows})


def _count_forms(rows: Sequence[Row]) -> float:
    """The exponential of the entropy of the shares of the forms of question."""
    counts = Counter(_form_of(row) for row in rows)
    total = counts.total()
    return math.exp(-sum(n / total * math.log(n / total) for n in counts.values()))
