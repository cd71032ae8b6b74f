"""Mixtures: how often each set is drawn, and that a step's turns follow from its number alone."""

from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c3l_ray.train.mixture_config import Weighting
from c3l_ray.train.reading.mixture import (
    DRAW_RANGE,
    TurnSet,
    compute_set_shares,
    count_draws,
    plan_draws,
)
from c3l_ray.train.reading.order import Schedule

SIZES = (3, 70, 200)
DrawnTurn = tuple[int, ...]


def make_sets(sizes: tuple[int, ...] = SIZES, rows_per_file: int = 10) -> list[TurnSet]:
    """Sets whose turns are told apart by their number in the set; files have rows of all sets."""
    return [
        TurnSet.from_list(
            str(number), [(i // rows_per_file, i % rows_per_file, number) for i in range(size)]
        )
        for number, size in enumerate(sizes)
    ]


def list_steps(
    sets: list[TurnSet],
    weighting: Weighting = "sqrt",
    *,
    batch_size: int = 4,
    seed: int = 3,
    shuffle_window: int = 8,
    first_step: int = 0,
    num_steps: int = 50,
) -> list[list[DrawnTurn]]:
    """The draws of each step."""
    schedule = Schedule(
        batch_size=batch_size,
        seed=seed,
        shuffle_window=shuffle_window,
        first_step=first_step,
        num_steps=num_steps,
    )
    shares = compute_set_shares([len(turn_set.turns) for turn_set in sets], weighting)
    steps: list[list[DrawnTurn]] = []
    for window in plan_draws(sets, shares, schedule):
        assert window.first_step == first_step + len(steps)
        steps += [[tuple(draw) for draw in step] for step in window.rows.tolist()]
    assert len(steps) == num_steps - first_step
    return steps


def turns_of_set(steps: list[list[DrawnTurn]], number: int) -> list[DrawnTurn]:
    return [draw[:2] for step in steps for draw in step if draw[2] == number]


@pytest.mark.parametrize(
    ("weighting", "shares"),
    [("sqrt", [1 / 6, 2 / 6, 3 / 6]), ("size", [1 / 14, 4 / 14, 9 / 14]), ("even", [1 / 3] * 3)],
)
def test_a_set_has_its_share(weighting: Weighting, shares: list[float]) -> None:
    assert compute_set_shares([100, 400, 900], weighting) == pytest.approx(shares)


def test_square_roots_give_the_ratios_of_the_authors_configs() -> None:
    """LLaVA's turns of a conversation, details, complex reasoning: 507, 152, 277."""
    shares = np.array(compute_set_shares([257_000, 23_240, 76_803], "sqrt"))
    assert np.allclose(shares * (507 + 152 + 277), [507, 152, 277], atol=0.5)


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=8),
    st.sampled_from(["sqrt", "size", "even"]),
    st.integers(0, 10**9),
    st.integers(0, 5000),
)
def test_draws_add_up_never_go_back_and_keep_their_shares(
    sizes: list[int], weighting: Weighting, num_draws: int, num_more: int
) -> None:
    shares = compute_set_shares(sizes, weighting)
    counts = count_draws(num_draws, shares)
    assert sum(counts) == num_draws
    assert np.allclose(counts, np.array(shares) * num_draws, rtol=0, atol=len(sizes) + 1e-3)
    later_counts = count_draws(num_draws + num_more, shares)
    assert all(count <= later for count, later in zip(counts, later_counts, strict=True))


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(1, 30),
    st.integers(0, 40),
    st.integers(0, 5),
)
@settings(deadline=None, max_examples=50)
def test_a_run_resumes_at_any_step_as_if_it_had_never_stopped(
    sizes: list[int], batch_size: int, shuffle_window: int, first_step: int, seed: int
) -> None:
    sets = make_sets(tuple(sizes))
    list_own_steps = partial(
        list_steps, sets, batch_size=batch_size, shuffle_window=shuffle_window, seed=seed
    )
    steps = list_own_steps(num_steps=40)
    assert list_own_steps(first_step=first_step, num_steps=40) == steps[first_step:]
    # What comes does not depend on when the run ends either.
    assert list_own_steps(num_steps=first_step) == steps[:first_step]


def test_a_small_set_comes_again_in_fresh_permutations_and_a_big_one_is_cut() -> None:
    # A window is a step, so that passes are told apart.
    steps = list_steps(make_sets(), shuffle_window=4)
    counts = [len(turns_of_set(steps, number)) for number in range(3)]
    assert np.allclose(counts, np.array(compute_set_shares(SIZES, "sqrt")) * 200, atol=2)
    small_set = turns_of_set(steps, 0)
    times = Counter(small_set)
    assert len(times) == 3 and max(times.values()) - min(times.values()) <= 1
    assert len({tuple(small_set[i : i + 3]) for i in range(0, len(small_set) - 2, 3)}) > 1
    assert max(Counter(turns_of_set(steps, 2)).values()) == 1  # 200 turns, about 115 draws
    assert steps != list_steps(make_sets(), shuffle_window=4, seed=4)


@pytest.mark.parametrize("sizes", [(500,), (1500,), (100,), (37, 90)])
def test_an_epoch_has_each_turn_once(sizes: tuple[int, ...]) -> None:
    """Also where a window holds several passes, and where a run ends within a window."""
    draws = list_steps(
        make_sets(sizes),
        "size",
        batch_size=4,
        shuffle_window=1024,
        num_steps=-(-sum(sizes) // 4),
    )
    for number, size in enumerate(sizes):
        turns = turns_of_set(draws, number)
        passes = [Counter(turns[first : first + size]) for first in range(0, len(turns), size)]
        assert all(set(times.values()) == {1} for times in passes)
        if len(sizes) == 1:
            assert set(passes[0]) == {turn[:2] for turn in turns} and len(passes[0]) == size


def test_the_second_pass_begins_with_what_the_first_left() -> None:
    steps = list_steps(make_sets((20,)), num_steps=10)  # two passes of 20, over five windows of 8
    assert set(Counter(turns_of_set(steps, 0)).values()) == {2}


def test_a_window_reads_few_files() -> None:
    sets = make_sets((400, 400), rows_per_file=20)
    for first in range(0, 48, 8):
        window = list_steps(sets, shuffle_window=32, first_step=first, num_steps=first + 8)
        assert len({draw[0] for step in window for draw in step}) <= 2 * 3


def test_numbers_are_even_and_a_turn_has_another_one_in_every_pass() -> None:
    steps = list_steps(make_sets((50,)), num_steps=500)
    numbers = np.array([draw[3] for step in steps for draw in step])
    assert numbers.min() >= 0 and numbers.max() < DRAW_RANGE
    assert abs((numbers < DRAW_RANGE / 2).mean() - 0.5) < 0.05
    numbers_of_a_turn = {draw[3] for step in steps for draw in step if draw[:2] == (0, 0)}
    assert len(numbers_of_a_turn) == 40
