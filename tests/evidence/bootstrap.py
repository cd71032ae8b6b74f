"""Bootstrap intervals clustered by scene, and the statistics that are resampled.

Turns about one scene share its difficulty, so whole scenes are drawn with replacement. A draw is a
row of counts, how often it has each scene; the first row has each once, so that a statistic's first
value is that of the data. Statistics of the same counts are paired: their difference is a statistic
too.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

NUM_DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A statistic of the data, and the bounds of its interval; NaN where it is not defined."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """The clusters of a sample, and the draws of them.

    Attributes:
        numbers: by cluster, its place in the counts.
        counts: how often each draw has each cluster [1 + draws, clusters]; the first row is ones.
    """

    numbers: dict[Hashable, int]
    counts: Floats

    def weights_of(self, keys: Sequence[Hashable]) -> Floats:
        """How often each draw has each item, by the items' clusters [1 + draws, items]."""
        places = np.array([self.numbers[key] for key in keys], dtype=np.intp)
        return self.counts[:, places]


def draw_clusters(
    keys: Sequence[Hashable], *, num_draws: int = NUM_DRAWS, seed: int = 0
) -> Clusters:
    """Draws the clusters that these keys name; the same keys and seed give the same draws."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    num_clusters = len(numbers)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=num_draws)
    return Clusters(numbers=numbers, counts=np.vstack([np.ones(num_clusters), drawn]))


def find_interval(values: Floats, level: float = LEVEL) -> Interval:
    """The percentile interval of a statistic's values [1 + draws], the data's first.

    Draws in which the statistic is not defined are left out.
    """
    drawn = values[1:][np.isfinite(values[1:])]
    if not drawn.size or not np.isfinite(values[0]):
        return Interval(estimate=float("nan"), low=float("nan"), high=float("nan"))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate=float(values[0]), low=float(low), high=float(high))


def share(weights: Floats, values: ArrayLike) -> Floats:
    """The weighted mean of some values by draw [1 + draws]; of truths, the true share.

    Args:
        weights: of the items [1 + draws, items].
        values: of the items [items].
    """
    return divide(weights @ np.asarray(values, dtype=float), weights.sum(axis=1))


def area_under_curve(weights: Floats, values: Sequence[float], is_true: Sequence[bool]) -> Floats:
    """The chance that a true item is above a false one by draw [1 + draws], ties counted half.

    Args:
        weights: of the items [1 + draws, items].
        values: of the items, higher being better.
        is_true: whether each is true.
    """
    true_weights, false_weights = _group_ties(weights, values, is_true)
    # From the lowest value up: the false ones below each tied group, and half of its own.
    false_below = np.cumsum(false_weights, axis=1) - false_weights / 2
    wins = (true_weights * false_below).sum(axis=1)
    return divide(wins, true_weights.sum(axis=1) * false_weights.sum(axis=1))


def true_share_of_top(
    weights: Floats, values: Sequence[float], is_true: Sequence[bool], top: float
) -> Floats:
    """The true share of the items that rank highest by draw [1 + draws].

    Of items that tie at the threshold, each counts in part, as if one drew among them.

    Args:
        weights: of the items [1 + draws, items].
        values: of the items, higher being better.
        is_true: whether each is true.
        top: the share of the items that is kept.
    """
    true_weights, false_weights = _group_ties(weights, values, is_true)
    true_weights, all_weights = true_weights[:, ::-1], (true_weights + false_weights)[:, ::-1]
    num_kept = top * weights.sum(axis=1, keepdims=True)
    above = np.cumsum(all_weights, axis=1) - all_weights
    kept = np.clip(num_kept - above, 0, all_weights)
    return divide((kept * divide(true_weights, all_weights, 0)).sum(axis=1), num_kept[:, 0])


def _group_ties(
    weights: Floats, values: Sequence[float], is_true: Sequence[bool]
) -> tuple[Floats, Floats]:
    """The weights of true and of false items by value, lowest first [1 + draws, values]."""
    array, truths = np.asarray(values, dtype=float), np.asarray(is_true, dtype=bool)
    order = np.argsort(array, kind="stable")
    ordered = array[order]
    if not ordered.size:
        return np.zeros((len(weights), 1)), np.zeros((len(weights), 1))
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ordered_weights = weights[:, order]
    true_weights = np.where(truths[order], ordered_weights, 0)
    return (
        np.add.reduceat(true_weights, starts, axis=1),
        np.add.reduceat(ordered_weights - true_weights, starts, axis=1),
    )


def divide(numerators: Floats, denominators: Floats, otherwise: float = np.nan) -> Floats:
    """The ratios, or another value where there is nothing to divide by."""
    filled: Floats = np.full(np.broadcast(numerators, denominators).shape, float(otherwise))
    ratios: Floats = np.divide(numerators, denominators, out=filled, where=denominators != 0)
    return ratios
