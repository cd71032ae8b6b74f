"""Standings and rank correlation, against what they mean and against a library."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from c3l_ray.methods.ranking import length_strata, spearman, percentile_rank, percentile_among

VALUES = st.lists(st.integers(-3, 3), min_size=2, max_size=30)


def test_a_standing_is_the_share_of_the_stratum_below() -> None:
    assert percentile_rank([10, 30, 20, 40]).tolist() == [0.125, 0.625, 0.375, 0.875]
    assert percentile_rank([1, 1, 1]).tolist() == [0.5, 0.5, 0.5]
    assert percentile_rank([]).tolist() == []


def test_strata_of_other_levels_stand_alike() -> None:
    found = percentile_rank([1, 2, 3, 100, 200, 300], ["short"] * 3 + ["detail"] * 3)
    assert found[:3].tolist() == found[3:].tolist() == pytest.approx([1 / 6, 0.5, 5 / 6])


@given(VALUES, st.lists(st.sampled_from("abc"), min_size=30, max_size=30))
def test_a_standing_keeps_the_order_of_each_stratum(values: list[int], strata: list[str]) -> None:
    found = percentile_rank(values, strata[: len(values)])
    assert ((found > 0) & (found < 1)).all()
    for i, one in enumerate(values):
        for j, other in enumerate(values):
            if strata[i] == strata[j]:
                assert (one < other) == (found[i] < found[j])


def test_a_standing_among_others_needs_no_place_there() -> None:
    others = np.array([1.0, 2.0, 2.0, 3.0])
    assert percentile_among([0, 1, 2, 2.5, 9], others).tolist() == [0.0, 0.125, 0.5, 0.75, 1.0]
    assert float(percentile_among(2, others)) == 0.5


def test_length_strata_are_quarters_of_each_kind() -> None:
    lengths = [*range(8), *range(100, 108)]
    strata = length_strata(lengths, ["short"] * 8 + ["detail"] * 8)
    assert [np.unique(strata[:8]).size, np.unique(strata[8:]).size] == [4, 4]
    assert not set(strata[:8]) & set(strata[8:])
    assert sorted(strata[:8]) == strata[:8].tolist()


@given(
    st.integers(2, 30).flatmap(
        lambda n: st.tuples(*[st.lists(st.integers(-3, 3), min_size=n, max_size=n)] * 2)
    )
)
def test_spearman_is_the_librarys(pairs: tuple[list[int], list[int]]) -> None:
    one, other = pairs
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert spearman(one, other) is None
    else:
        assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)


def test_nothing_has_no_correlation() -> None:
    assert spearman([], []) is None
