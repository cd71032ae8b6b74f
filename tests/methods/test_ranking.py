"""Percentile ranks and rank correlation, against what they mean and against a library."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from c3l_ray.methods.ranking import length_strata, percentile_among, percentile_rank, spearman

VALUES = st.lists(st.integers(-3, 3), min_size=2, max_size=30)


def test_a_percentile_rank_is_the_share_of_the_stratum_below() -> None:
    assert percentile_rank([10, 30, 20, 40]).tolist() == [0.125, 0.625, 0.375, 0.875]
    assert percentile_rank([1, 1, 1]).tolist() == [0.5, 0.5, 0.5]
    assert percentile_rank([]).tolist() == []


def test_strata_of_other_levels_rank_alike() -> None:
    ranks = percentile_rank([1, 2, 3, 100, 200, 300], ["short"] * 3 + ["detail"] * 3)
    assert ranks[:3].tolist() == ranks[3:].tolist() == pytest.approx([1 / 6, 0.5, 5 / 6])


@given(VALUES, st.lists(st.sampled_from("abc"), min_size=30, max_size=30))
def test_a_percentile_rank_keeps_the_order_of_each_stratum(
    values: list[int], strata: list[str]
) -> None:
    ranks = percentile_rank(values, strata[: len(values)])
    assert ((ranks > 0) & (ranks < 1)).all()
    for i, one in enumerate(values):
        for j, other in enumerate(values):
            if strata[i] == strata[j]:
                assert (one < other) == (ranks[i] < ranks[j])


def test_a_value_is_ranked_among_others_that_it_is_not_one_of() -> None:
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
def test_spearman_agrees_with_a_library(pairs: tuple[list[int], list[int]]) -> None:
    one, other = pairs
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert spearman(one, other) is None
    else:
        assert spearman(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)


def test_no_values_have_no_correlation() -> None:
    assert spearman([], []) is None
