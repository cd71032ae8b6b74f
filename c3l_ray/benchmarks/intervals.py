"""How sure a benchmark's figures are: intervals of the bootstrap over images, as of comparisons."""

import warnings
from collections.abc import Sequence

import numpy as np

from c3l_ray.benchmarks.comparison import BATCH, LEVEL, NUM_RESAMPLES, Floats
from c3l_ray.benchmarks.metrics import Item, Metric


def find_interval(items: Sequence[Item], metric: Metric) -> tuple[float, float] | None:
    """The 95 % interval of a figure, by the percentiles of figures of images drawn anew.

    Questions about one image are no independent draws, so that images are drawn.

    Args:
        items: that the figure is of.
        metric: the figure.

    Returns:
        Its bounds; None where the images tell nothing of the spread: there are fewer than two with
        a say in it, or the figure is the same of each.
    """
    from scipy import stats

    by_image: dict[str, Floats] = {}
    for item in items:
        image = item[0].question.image
        counts = np.array(metric.count(item), dtype=float)
        by_image[image] = by_image.get(image, np.zeros(2)) + counts
    parts, wholes = np.array(list(by_image.values())).reshape(-1, 2).T  # [images] each
    has_say = wholes > 0
    if has_say.sum() < 2 or np.ptp(parts[has_say] / wholes[has_say]) == 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # undefined ones, see below
        resampled = stats.bootstrap(
            (parts, wholes),
            _divide_sums,
            paired=True,
            vectorized=True,
            n_resamples=NUM_RESAMPLES,
            batch=BATCH,
            method="percentile",
            rng=np.random.default_rng(0),
        ).bootstrap_distribution
    defined = resampled[np.isfinite(resampled)]  # of no "yes" at all there is no precision
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _divide_sums(parts: Floats, wholes: Floats, axis: int) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = parts.sum(axis=axis) / wholes.sum(axis=axis)
    return ratio
