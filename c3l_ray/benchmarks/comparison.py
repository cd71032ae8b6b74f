"""How much better one model's answers are than another's to the same questions, and how sure.

Intervals are of the bootstrap, paired and clustered: questions about one image are no independent
draws, and both models answered about the same images. McNemar's test counts the items that only
one of them has right.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from c3l_ray.benchmarks.answers import BenchmarkAnswer
from c3l_ray.benchmarks.metrics import Item, Metric, group_items, is_right

NUM_RESAMPLES = 2_000
LEVEL = 0.95
BATCH = 256  # resamples at once, lest all of them take gigabytes

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A figure of one model less that of another.

    Attributes:
        value: of the difference; None where a side has no such figure.
        low, high: bounds of its 95 % interval; None where one image tells nothing of the spread.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class GroupComparison:
    """What a comparison says of a group.

    Attributes:
        items: that both models answered.
        differences: by metric.
        only_this, only_other: items that only this model, and only the other, has right.
        p_value: McNemar's exact, two-sided; of items as if they were independent.
    """

    items: int
    differences: dict[str, Difference]
    only_this: int
    only_other: int
    p_value: float


def compare_answers(
    answers: Sequence[BenchmarkAnswer],
    others: Sequence[BenchmarkAnswer],
    metrics: Sequence[Metric],
) -> dict[str, GroupComparison]:
    """Compares the answers of two models by group.

    Args:
        answers: of this model.
        others: of the other one, to the same questions.
        metrics: figures to compare.
    """
    mine, theirs = _index_items(answers), _index_items(others)
    comparisons = {}
    for group in mine:
        names = [name for name in mine[group] if name in theirs.get(group, {})]
        comparisons[group] = _compare_items(
            [mine[group][name] for name in names], [theirs[group][name] for name in names], metrics
        )
    return comparisons


def _index_items(answers: Sequence[BenchmarkAnswer]) -> dict[str, Mapping[tuple[str, str], Item]]:
    """By group, the measured items by their names."""
    return {
        group: {(item[0].question.group, item[0].question.item): item for item in items}
        for group, items in group_items(answers).items()
    }


def _compare_items(
    items: Sequence[Item], others: Sequence[Item], metrics: Sequence[Metric]
) -> GroupComparison:
    """Compares two models' answers to the items, which come in the same order."""
    from scipy import stats

    rights = [(is_right(item), is_right(other)) for item, other in zip(items, others, strict=True)]
    only_this = sum(mine and not theirs for mine, theirs in rights)
    only_other = sum(theirs and not mine for mine, theirs in rights)
    differing = only_this + only_other
    p_value = stats.binomtest(only_this, differing, 0.5).pvalue if differing else 1.0
    return GroupComparison(
        items=len(items),
        differences={metric.name: _find_difference(items, others, metric) for metric in metrics},
        only_this=only_this,
        only_other=only_other,
        p_value=float(p_value),
    )


def _find_difference(items: Sequence[Item], others: Sequence[Item], metric: Metric) -> Difference:
    """A metric's difference with its bootstrap interval over images."""
    from scipy import stats

    clusters: dict[str, Floats] = {}
    for item, other in zip(items, others, strict=True):
        counts = np.array([*metric.count(item), *metric.count(other)], dtype=float)
        image = item[0].question.image
        clusters[image] = clusters.get(image, np.zeros(4)) + counts
    sums = np.array(list(clusters.values())).reshape(-1, 4).T  # [4, images]
    value = float(_subtract_ratios(sums[0], sums[1], sums[2], sums[3], axis=-1))
    if not np.isfinite(value):
        return Difference(value=None)
    if len(clusters) < 2:
        return Difference(value=value)
    if np.array_equal(sums[:2], sums[2:]):  # no resample differs either
        return Difference(value=0.0, low=0.0, high=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # undefined ones, see below
        resampled = stats.bootstrap(
            tuple(sums),
            _subtract_ratios,
            paired=True,
            vectorized=True,
            n_resamples=NUM_RESAMPLES,
            batch=BATCH,
            method="percentile",
            rng=np.random.default_rng(0),
        ).bootstrap_distribution
    defined = resampled[np.isfinite(resampled)]  # of no "yes" at all there is no precision
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(value=value, low=float(low), high=float(high))


def _subtract_ratios(
    part: Floats, whole: Floats, other_part: Floats, other_whole: Floats, axis: int
) -> Floats:
    """The ratio of sums of one model less that of another; NaN where one is not defined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        difference: Floats = part.sum(axis=axis) / whole.sum(axis=axis) - other_part.sum(
            axis=axis
        ) / other_whole.sum(axis=axis)
    return difference
