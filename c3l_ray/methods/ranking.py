"""Ranks of scores: percentile ranks inside strata, and how far two rankings agree.

Scores of different kinds of turns, and of short and long answers, have different levels. A ranking
over all of them then ranks kinds and lengths first; a percentile rank inside a stratum does not.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from c3l_ray.methods.i2c import Floats

NUM_LENGTH_STRATA = 4


def percentile_rank(values: ArrayLike, strata: ArrayLike | None = None) -> NDArray[np.float64]:
    """The share of its stratum that each value is above, in (0, 1); equal values share theirs.

    Args:
        values: finite, [N].
        strata: names of any kind, [N]; None is one stratum.
    """
    array = np.asarray(values, dtype=np.float64)
    if strata is None:
        return percentile_among(array, np.sort(array))
    _, stratum = np.unique(np.asarray(strata), return_inverse=True)
    ranks = np.empty(len(array))
    order = np.argsort(stratum, kind="stable")
    borders = np.cumsum(np.bincount(stratum, minlength=1))[:-1]
    for members in np.split(order, borders):
        ranks[members] = percentile_rank(array[members])
    return ranks


def percentile_among(values: ArrayLike, sorted_values: Floats) -> NDArray[np.float64]:
    """The share of the sorted values that each value is above, equal ones counted half; its shape.

    Args:
        values: finite, of any shape.
        sorted_values: finite, rising, [N].
    """
    below = np.searchsorted(sorted_values, values, side="left")
    up_to = np.searchsorted(sorted_values, values, side="right")
    share: NDArray[np.float64] = (below + up_to) / max(1, 2 * len(sorted_values))
    return share


def length_strata(lengths: ArrayLike, kinds: ArrayLike) -> NDArray[Any]:
    """For each turn its kind and the quarter of that kind's lengths that its own is in, [N]."""
    _, kind = np.unique(np.asarray(kinds), return_inverse=True)
    quarter = np.floor(percentile_rank(lengths, kind) * NUM_LENGTH_STRATA).astype(np.int64)
    strata: NDArray[Any] = kind * NUM_LENGTH_STRATA + quarter
    return strata


def spearman(one: ArrayLike, other: ArrayLike) -> float | None:
    """Spearman's rank correlation of two measures [N]; None where one of them is constant."""
    ranks = [percentile_rank(values) for values in (one, other)]
    deviations = [rank - rank.mean() for rank in ranks] if len(ranks[0]) else ranks
    norm = float(np.prod([np.sqrt(np.sum(deviation**2)) for deviation in deviations]))
    return float(np.sum(deviations[0] * deviations[1])) / norm if norm > 0 else None


def uniform_from(text: str) -> float:
    """A number in [0, 1) drawn from a text: the same in every run, whatever the order of files."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
