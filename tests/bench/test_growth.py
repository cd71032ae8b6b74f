"""The steps whose growth is measured do their work."""

from pathlib import Path

import pytest

from tests.bench import growth
from tests.bench.growth import list_counts, measure_cost


def test_counts_grow_tenfold_up_to_the_largest() -> None:
    assert list_counts(10, 10_000) == [10, 100, 1_000, 10_000]
    assert list_counts(1_000, 1_000_000) == [1_000, 10_000, 100_000, 1_000_000]
    assert list_counts(10, 500) == [10, 100, 500]
    assert list_counts(1_000, 1_000) == [1_000]


def test_small_parquet_files_are_joined_and_a_cost_is_noted(tmp_path: Path) -> None:
    _, write, steps = growth.SIZES[1]
    write(tmp_path, 3)
    costs = {name: measure_cost(step, tmp_path) for name, step in steps.items()}
    assert [*costs] == ["list", "index", "read indexes", "join"]
    assert all(cost.wall_s > 0 and cost.mib >= 0 for cost in costs.values())


def test_a_join_that_joins_nothing_is_no_measurement(tmp_path: Path) -> None:
    _, write, steps = growth.SIZES[2]  # tars, which are not joined
    write(tmp_path, 2)
    measure_cost(steps["index"], tmp_path)
    with pytest.raises(AssertionError, match="nothing was joined"):
        measure_cost(growth.begin_joining, tmp_path)


def test_the_choice_of_one_turn_writes_it(tmp_path: Path) -> None:
    _, write, steps = growth.SIZES[0]
    write(tmp_path, 2)
    measure_cost(steps["select"], tmp_path)
    assert list((tmp_path / "best" / "data").glob("part-*.parquet"))
