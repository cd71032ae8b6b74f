"""The statistics of the evidence, against plain ones on copied items and against known errors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3l_ray.evaluation import shipped_world
from tests.evidence.bootstrap import (
    Floats,
    area_under_curve,
    draw_clusters,
    find_interval,
    share,
    true_share_of_top,
)

ITEMS = st.lists(
    st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=1, max_size=12
)


def only_row(*weights: float) -> Floats:
    return np.array([weights], dtype=float)


@given(ITEMS)
def test_the_area_under_the_curve_is_that_of_items_copied_by_their_weights(
    items: list[tuple[int, bool, int]],
) -> None:
    sides: dict[bool, list[float]] = {True: [], False: []}
    for value, is_true, weight in items:
        sides[is_true] += [float(value)] * weight
    (area,) = area_under_curve(
        only_row(*(weight for *_, weight in items)),
        [value for value, *_ in items],
        [is_true for _, is_true, _ in items],
    )
    plain = shipped_world.area_under_curve(sides[True], sides[False])
    assert math.isnan(area) if plain is None else area == pytest.approx(plain)


def test_the_top_counts_ties_in_part() -> None:
    values, truths = [3, 2, 2, 2, 1], [True, True, False, False, True]
    weights = only_row(1, 1, 1, 1, 1)
    assert true_share_of_top(weights, values, truths, 0.2) == 1.0
    assert true_share_of_top(weights, values, truths, 0.4) == pytest.approx((1 + 1 / 3) / 2)
    assert true_share_of_top(weights, values, truths, 1.0) == pytest.approx(3 / 5)
    twice = true_share_of_top(only_row(1, 3, 0, 0, 1), values, truths, 0.5)
    assert twice == pytest.approx(1.0)


def test_an_interval_is_as_wide_as_clusters_make_it() -> None:
    rng = np.random.default_rng(1)
    truths = rng.random(400) < 0.7
    error = math.sqrt(0.7 * 0.3 / 400)
    alone = draw_clusters(list(range(400)))
    copied_keys = [place for place in range(400) for _ in range(5)]
    copied = draw_clusters(copied_keys)
    widths = []
    for clusters, keys, values in (
        (alone, list(range(400)), truths),
        (copied, copied_keys, np.repeat(truths, 5)),
    ):
        interval = find_interval(share(clusters.weights_of(keys), values))
        assert interval.estimate == truths.mean()
        widths.append(interval.high - interval.low)
    # Five copies of a turn tell no more than one: a bootstrap of turns would halve the width.
    assert widths == pytest.approx([2 * 1.96 * error] * 2, rel=0.1)


def test_the_interval_of_a_ratio_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(200):
        of_scene = rng.beta(4, 2, size=60)
        keys = [scene for scene in range(60) for _ in range(rng.integers(1, 6))]
        truths = rng.random(len(keys)) < of_scene[keys]
        clusters = draw_clusters(keys, num_draws=300, seed=trial)
        interval = find_interval(share(clusters.weights_of(keys), truths))
        covered += interval.low <= 4 / 6 <= interval.high
    assert 180 <= covered <= 199  # 95 % of 200 is 190


def test_a_difference_of_paired_statistics_is_narrower_than_their_own_intervals() -> None:
    rng = np.random.default_rng(3)
    before = rng.random(500) < 0.6
    after = before | (rng.random(500) < 0.05)
    keys = [place // 5 for place in range(500)]
    weights = draw_clusters(keys).weights_of(keys)
    difference = find_interval(share(weights, after) - share(weights, before))
    alone = find_interval(share(weights, after))
    assert difference.low > 0
    assert difference.high - difference.low < (alone.high - alone.low) / 2


def test_a_statistic_that_is_not_defined_has_no_interval() -> None:
    weights = draw_clusters([0, 1]).weights_of([0, 1])
    assert math.isnan(find_interval(area_under_curve(weights, [1, 2], [True, True])).estimate)
    assert math.isnan(find_interval(area_under_curve(weights[:, :0], [], [])).estimate)
    assert math.isnan(find_interval(true_share_of_top(weights[:, :0], [], [], 0.5)).estimate)
