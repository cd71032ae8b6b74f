"""Means, totals and their intervals, against numpy, scipy and draws from known populations."""

import math

import numpy as np
import pytest
from scipy import stats

from c3l_ray.planning.estimates import (
    CONFIDENCE,
    Estimate,
    Interval,
    estimate_mean,
    estimate_total,
)


def test_a_mean_has_the_interval_of_students_t() -> None:
    values = [3.0, 5.0, 4.0, 8.0, 2.5]
    interval = estimate_mean(values).interval()
    low, high = stats.t.interval(
        CONFIDENCE, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
    )
    assert interval.value == pytest.approx(np.mean(values))
    assert interval.low == pytest.approx(low) and interval.high == pytest.approx(high)


def test_clusters_of_one_case_each_are_no_clusters() -> None:
    values = [3.0, 5.0, 4.0, 8.0]
    alone = estimate_mean(values, ["a", "b", "c", "d"])
    together = estimate_mean(values)
    assert alone.error == pytest.approx(together.error) and alone.freedom == together.freedom


def test_cases_of_a_cluster_that_are_alike_count_as_one() -> None:
    of_clusters = [3.0, 5.0, 4.0, 8.0]
    clusters = ["a", "b", "c", "d"]
    doubled = estimate_mean([*of_clusters, *of_clusters], clusters * 2)
    assert doubled.error == pytest.approx(estimate_mean(of_clusters).error)
    assert doubled.freedom == 3


def test_intervals_of_clustered_samples_hold_as_often_as_they_say() -> None:
    """Clusters of equal size whose means differ: without them, intervals are far too narrow."""
    random = np.random.default_rng(0)
    held, held_without = 0, 0
    for _ in range(600):
        means = random.normal(0, 1, size=12)
        values = (means[:, None] + random.normal(0, 0.3, size=(12, 5))).ravel()
        clusters = [str(number) for number in range(12) for _ in range(5)]
        for of_clusters in (clusters, None):
            interval = estimate_mean(values.tolist(), of_clusters).interval(-math.inf)
            assert interval.low is not None and interval.high is not None
            holds = interval.low <= 0 <= interval.high
            held += holds and of_clusters is not None
            held_without += holds and of_clusters is None
    assert 0.92 < held / 600 < 0.98
    assert held_without / 600 < 0.75


@pytest.mark.parametrize(("values", "clusters"), [([2.0], None), ([2.0, 3.0], ["a", "a"])])
def test_a_single_draw_tells_nothing_of_the_spread(
    values: list[float], clusters: list[str] | None
) -> None:
    interval = estimate_mean(values, clusters).interval()
    assert interval == Interval(value=float(np.mean(values)), low=None, high=None)


def test_a_total_of_counted_cases_is_known() -> None:
    assert estimate_total([3, 4], [10, 20], 2, 30) == Estimate(value=7.0)


def test_a_total_goes_with_the_sizes() -> None:
    counts, sizes = [10, 22, 29], [100, 200, 300]
    total = estimate_total(counts, sizes, 12, 2_400)
    ratio = 61 / 600
    assert total.value == pytest.approx(2_400 * ratio)
    residuals = np.array(counts) - ratio * np.array(sizes)
    variance = 12**2 * (1 - 3 / 12) / 3 * np.sum(residuals**2) / 2
    assert total.error == pytest.approx(math.sqrt(variance)) and total.freedom == 2


def test_intervals_of_totals_hold_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    sizes = random.integers(50, 500, size=200)
    counts = np.round(sizes * random.normal(0.3, 0.05, size=200))
    held = 0
    for _ in range(600):
        drawn = random.choice(200, size=24, replace=False)
        total = estimate_total(
            counts[drawn].tolist(), sizes[drawn].tolist(), 200, int(sizes.sum())
        ).interval()
        assert total.low is not None and total.high is not None
        held += total.low <= counts.sum() <= total.high
    assert 0.92 < held / 600 < 0.98


def test_cases_without_sizes_count_as_one_each() -> None:
    assert estimate_total([4, 6], [0, 0], 10, 0).value == 50


def test_a_product_has_the_errors_of_both() -> None:
    product = Estimate(value=10.0, error=1.0, freedom=4).times(
        Estimate(value=2.0, error=0.3, freedom=9)
    )
    draws = np.random.default_rng(2)
    simulated = draws.normal(10, 1, 200_000) * draws.normal(2, 0.3, 200_000)
    assert product.value == 20 and product.freedom == 4
    assert product.error == pytest.approx(np.std(simulated), rel=0.02)


def test_a_product_with_a_known_figure_is_scaled() -> None:
    assert Estimate(value=10.0, error=1.0, freedom=4).times(3) == Estimate(
        value=30.0, error=3.0, freedom=4
    )


def test_an_unknown_error_stays_unknown() -> None:
    unknown = Estimate(value=2.0, error=None)
    assert unknown.times(3).error is None
    assert Estimate(value=1.0, error=0.5, freedom=3).times(unknown).error is None
    assert unknown.plus(1).interval() == Interval(value=3.0, low=None, high=None)


def test_an_interval_ends_where_the_figure_cannot_be() -> None:
    estimate = Estimate(value=1.0, error=2.0, freedom=3)
    assert estimate.interval().low == 0
    assert estimate.interval(0.5).low == 0.5


def test_the_inverse_of_an_interval_turns_its_ends() -> None:
    assert Interval(value=4.0, low=2.0, high=5.0).inverse() == Interval(
        value=0.25, low=0.2, high=0.5
    )
    assert Interval(value=4.0, low=0.0, high=5.0).inverse().high is None
    assert Interval(value=4.0, low=None, high=None).inverse().low is None
