"""How sure a benchmark's figures are: intervals of the bootstrap over images, as of differences."""

from collections.abc import Sequence

import numpy as np

from c3l_ray.benchmarks.bootstrap import Floats, bound_difference, draw_resamples
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
    by_image: dict[str, Floats] = {}
    for item in items:
        image = item[0].question.image
        counts = np.array(metric.count(item), dtype=float)
        by_image[image] = by_image.get(image, np.zeros(2)) + counts
    sums = np.array(list(by_image.values())).reshape(-1, 2).T
    parts, wholes = sums
    has_say = wholes > 0
    if has_say.sum() < 2 or np.ptp(parts[has_say] / wholes[has_say]) == 0:
        return None
    value = float(_divide_sums(parts, wholes, axis=-1))
    resampled = draw_resamples(sums, _divide_sums, np.random.default_rng(0))
    interval = bound_difference(value, resampled)
    assert interval.low is not None and interval.high is not None, "there are two images"
    return interval.low, interval.high


def _divide_sums(parts: Floats, wholes: Floats, axis: int) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = parts.sum(axis=axis) / wholes.sum(axis=axis)
    return ratio
