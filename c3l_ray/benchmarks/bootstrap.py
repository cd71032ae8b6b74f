"""Intervals of differences by the paired bootstrap over images, with all of their questions."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from c3l_ray.benchmarks.metrics import Item, Metric

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


def find_difference(items: Sequence[Item], others: Sequence[Item], metric: Metric) -> Difference:
    """A metric's difference with its bootstrap interval over images.

    Args:
        items: of this model.
        others: the same items of the other one, in the same order.
        metric: to compare.
    """
    sums = sum_by_image([items, others], [metric])
    value = float(subtract_ratios(sums[0], sums[1], sums[2], sums[3], axis=-1))
    if not np.isfinite(value):
        return Difference(value=None)
    if sums.shape[1] > 1 and np.array_equal(sums[:2], sums[2:]):  # no resample differs either
        return Difference(value=0.0, low=0.0, high=0.0)
    resampled = draw_resamples(sums, subtract_ratios, np.random.default_rng(0))
    return bound_difference(value, resampled)


def sum_by_image(sides: Sequence[Sequence[Item]], metrics: Sequence[Metric]) -> Floats:
    """What each image adds to the numerators and denominators of metrics.

    Args:
        sides: the items of each model, the same ones in the same order.
        metrics: to compute.

    Returns:
        Shape [2 * sides * metrics, images]: of each metric the numerator and denominator of each
        side.
    """
    images: dict[str, Floats] = {}
    for item_of_sides in zip(*sides, strict=True):
        counts = [count for m in metrics for item in item_of_sides for count in m.count(item)]
        image = item_of_sides[0][0].question.image
        images[image] = images.get(image, np.zeros(len(counts))) + np.array(counts, dtype=float)
    return np.array(list(images.values())).reshape(-1, 2 * len(sides) * len(metrics)).T


def draw_resamples(
    sums: Floats, statistic: Callable[..., Floats], rng: np.random.Generator
) -> Floats | None:
    """A statistic of images drawn with replacement.

    Args:
        sums: shape [rows, images].
        statistic: of rows, along an axis.
        rng: draws the images.

    Returns:
        Shape [NUM_RESAMPLES], NaN where it is not defined; None of fewer than two images.
    """
    from scipy import stats

    if sums.shape[1] < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # undefined ones are left out
        resampled: Floats = stats.bootstrap(
            tuple(sums),
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=NUM_RESAMPLES,
            batch=BATCH,
            method="percentile",
            rng=rng,
        ).bootstrap_distribution
    return resampled


def bound_difference(value: float, resampled: Floats | None) -> Difference:
    """A difference with the percentile interval of its resamples, if there are any."""
    if resampled is None:
        return Difference(value=value)
    low, high = find_bounds(resampled)
    return Difference(value=value, low=low, high=high)


def find_bounds(resampled: Floats) -> tuple[float, float]:
    """The percentile interval of resamples, of those in which the statistic is defined."""
    defined = resampled[np.isfinite(resampled)]  # of no "yes" at all there is no precision
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def divide_sums(part: Floats, whole: Floats, axis: int) -> Floats:
    """The ratio of sums; NaN where it is not defined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = part.sum(axis=axis) / whole.sum(axis=axis)
    return ratio


def subtract_ratios(
    part: Floats, whole: Floats, other_part: Floats, other_whole: Floats, axis: int
) -> Floats:
    """The ratio of sums of one model less that of another; NaN where one is not defined."""
    return divide_sums(part, whole, axis) - divide_sums(other_part, other_whole, axis)
