"""MME's scores: 100 (accuracy + accuracy of images) of a subtask, and their sums over a half.

Source: calculation.py of MME's eval_tool, in words.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from c3l_ray.benchmarks.bootstrap import (
    Difference,
    Floats,
    bound_difference,
    draw_resamples,
    subtract_ratios,
    sum_by_image,
)
from c3l_ray.benchmarks.metrics import ACCURACY, ALL, ITEM_ACCURACY, Item

SCORE = "score"
POINTS = 100  # of an accuracy of 1

Figures = dict[str, dict[str, float | int | None]]
"""By group, its figures by name."""

Halves = Mapping[str, Sequence[str]]
"""By name, the groups whose scores are added up."""


def add_scores(figures: Figures, halves: Halves) -> Figures:
    """The figures with a score of each subtask, and of each half whose subtasks all have one."""
    scored: Figures = {}
    for name, row in figures.items():
        accuracy, both = row[ACCURACY.name], row[ITEM_ACCURACY.name]
        is_defined = name != ALL and accuracy is not None and both is not None
        score = POINTS * ((accuracy or 0) + (both or 0)) if is_defined else None
        scored[name] = {**row, SCORE: score}
    for half, names in halves.items():
        scores = [scored[name][SCORE] for name in names if name in scored]
        defined = [score for score in scores if score is not None]
        if defined and len(defined) == len(names):
            rows = [scored[name] for name in names]
            counts = {
                count: sum(row[count] or 0 for row in rows) for count in ("questions", "unreadable")
            }
            scored[half] = {**dict.fromkeys(scored[names[0]]), **counts, SCORE: sum(defined)}
    return scored


def compare_scores(
    paired: Mapping[str, tuple[Sequence[Item], Sequence[Item]]], halves: Halves
) -> dict[str, Difference]:
    """The differences of scores, with intervals of the paired bootstrap.

    Images are drawn within each subtask, so that each keeps its number of images, and
    independently of those of other subtasks.

    Args:
        paired: by group, the items of this model, and the same of the other one.
        halves: whose scores are added up.

    Returns:
        By subtask, and by half where all of its subtasks have a score; an interval of a half takes
        two images of each.
    """
    rng = np.random.default_rng(0)  # of all subtasks: a seed for each would draw alike
    values: dict[str, float] = {}
    resamples: dict[str, Floats | None] = {}
    for group in (group for names in halves.values() for group in names if group in paired):
        sums = sum_by_image(paired[group], [ACCURACY, ITEM_ACCURACY])
        value = float(_subtract_scores(*sums, axis=-1))
        if np.isfinite(value):
            values[group] = value
            resamples[group] = draw_resamples(sums, _subtract_scores, rng)
    differences = {group: bound_difference(values[group], resamples[group]) for group in values}
    for half, groups in halves.items():
        if all(group in values for group in groups):
            drawn = [resamples[group] for group in groups]
            known = [resampled for resampled in drawn if resampled is not None]
            total: Floats | None = np.sum(known, axis=0) if len(known) == len(drawn) else None
            differences[half] = bound_difference(sum(values[group] for group in groups), total)
    return differences


def _subtract_scores(*sums: Floats, axis: int) -> Floats:
    accuracies = subtract_ratios(sums[0], sums[1], sums[2], sums[3], axis=axis)
    accuracies_of_images = subtract_ratios(sums[4], sums[5], sums[6], sums[7], axis=axis)
    score: Floats = POINTS * (accuracies + accuracies_of_images)
    return score
