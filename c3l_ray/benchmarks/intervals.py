"""How sure a benchmark's figures are: intervals of the bootstrap over images, as of differences."""

from collections.abc import Sequence

import numpy as np

from c3l_ray.benchmarks.bootstrap import divide_sums, draw_resamples, find_bounds, sum_by_image
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
    sums = sum_by_image([items], [metric])
    parts, wholes = sums
    has_say = wholes > 0
    if has_say.sum() < 2 or np.ptp(parts[has_say] / wholes[has_say]) == 0:
        return None
    resampled = draw_resamples(sums, divide_sums, np.random.default_rng(0))
    assert resampled is not None, "there are two images"
    return find_bounds(resampled)
