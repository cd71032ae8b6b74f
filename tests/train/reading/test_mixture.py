"""Mixtures: how often each set is drawn, and that a step's turns follow from its number alone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c3l_ray.errors import PreflightError
from c3l_ray.train.reading import mixture
from c3l_ray.train.reading.mixture import MAX_SETS, NUM_LOTS, Mixture, Set

SIZES = (3, 70, 200)
Turn = tuple[int, ...]


def sets(sizes: tuple[int, ...] = SIZES, rows_of_a_part: int = 10) -> list[Set]:
    """Sets whose turns are told apart by their number in the set; parts have rows of all sets."""
    return [
        Set.of(
            str(number), [(i // rows_of_a_part, i % rows_of_a_part, number) for i in range(size)]
        )
        for number, size in enumerate(sizes)
    ]


def steps(
    of: list[Set],
    by: str = "sqrt",
    *,
    batch_size: int = 4,
    seed: int = 3,
    window_images: int = 8,
    first_step: int = 0,
    num_steps: int = 50,
) -> list[list[Turn]]:
    """The places of each step."""
    found = []
    for window in mixture.windows(
        of,
        mixture.shares([len(each.turns) for each in of], by),
        batch_size=batch_size,
        seed=seed,
        window_images=window_images,
        first_step=first_step,
        num_steps=num_steps,
    ):
        assert window.first_step == first_step + len(found)
        found += [[tuple(place) for place in step] for step in window.places.tolist()]
    assert len(found) == num_steps - first_step
    return found


def of_set(found: list[list[Turn]], number: int) -> list[Turn]:
    return [place[:2] for step in found for place in step if place[2] == number]


@pytest.mark.parametrize(
    ("by", "expected"),
    [("sqrt", [1 / 6, 2 / 6, 3 / 6]), ("size", [1 / 14, 4 / 14, 9 / 14]), ("even", [1 / 3] * 3)],
)
def test_a_set_has_its_share(by: str, expected: list[float]) -> None:
    assert mixture.shares([100, 400, 900], by) == pytest.approx(expected)


def test_square_roots_give_the_ratios_of_the_authors_configs() -> None:
    """LLaVA's turns of a conversation, details, complex reasoning: 507, 152, 277."""
    found = np.array(mixture.shares([257_000, 23_240, 76_803], "sqrt"))
    assert np.allclose(found * (507 + 152 + 277), [507, 152, 277], atol=0.5)


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=8),
    st.sampled_from(["sqrt", "size", "even"]),
    st.integers(0, 10**9),
    st.integers(0, 5000),
)
def test_draws_add_up_never_go_back_and_keep_their_shares(
    sizes: list[int], by: str, num_draws: int, more: int
) -> None:
    shares = mixture.shares(sizes, by)
    found = mixture.drawn(num_draws, shares)
    assert sum(found) == num_draws
    assert np.allclose(found, np.array(shares) * num_draws, rtol=0, atol=len(sizes) + 1e-3)
    later = mixture.drawn(num_draws + more, shares)
    assert all(one <= other for one, other in zip(found, later, strict=True))


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(1, 30),
    st.integers(0, 40),
    st.integers(0, 5),
)
@settings(deadline=None, max_examples=50)
def test_a_run_goes_on_at_any_step_as_if_it_had_never_stopped(
    sizes: list[int], batch_size: int, window_images: int, first_step: int, seed: int
) -> None:
    of = sets(tuple(sizes))
    settings_ = {"batch_size": batch_size, "window_images": window_images, "seed": seed}
    whole = steps(of, **settings_, num_steps=40)
    assert steps(of, **settings_, first_step=first_step, num_steps=40) == whole[first_step:]
    # What comes does not depend on when the run ends either.
    assert steps(of, **settings_, num_steps=first_step) == whole[:first_step]


def test_a_small_set_comes_again_in_fresh_permutations_and_a_big_one_is_cut() -> None:
    found = steps(sets(), window_images=4)  # a window is a step, so that passes are told apart
    counts = [len(of_set(found, number)) for number in range(3)]
    expected = np.array(mixture.shares(SIZES, "sqrt")) * 200
    assert np.allclose(counts, expected, atol=2)
    times = Counter(of_set(found, 0))
    assert len(times) == 3 and max(times.values()) - min(times.values()) <= 1
    small = of_set(found, 0)
    assert len({tuple(small[i : i + 3]) for i in range(0, len(small) - 2, 3)}) > 1
    assert max(Counter(of_set(found, 2)).values()) == 1  # 200 turns, about 115 draws
    assert found != steps(sets(), window_images=4, seed=4)


def test_the_second_pass_begins_with_what_the_first_left() -> None:
    found = steps(sets((20,)), num_steps=10)  # two passes of 20, over five windows of 8
    turns = of_set(found, 0)
    assert set(Counter(turns).values()) == {2}


def test_a_window_reads_few_files() -> None:
    of = sets((400, 400), rows_of_a_part=20)
    for first in range(0, 48, 8):
        window = steps(of, window_images=32, first_step=first, num_steps=first + 8)
        assert len({place[0] for step in window for place in step}) <= 2 * 3


def test_lots_are_even_and_a_turn_has_another_in_every_pass() -> None:
    found = steps(sets((50,)), num_steps=500)
    lots = np.array([place[3] for step in found for place in step])
    assert lots.min() >= 0 and lots.max() < NUM_LOTS
    assert abs((lots < NUM_LOTS / 2).mean() - 0.5) < 0.05
    of_one = {place[3] for step in found for place in step if place[:2] == (0, 0)}
    assert len(of_one) == 40


KINDS = ("llava/detail_23k.json=detail", "part-*=short")


@pytest.mark.parametrize(
    ("kind", "source", "of", "as_kind"),
    [
        ("reasoning", "a.tar", "reasoning", "reasoning"),
        ("yes_no", "part-1", "yes_no", "yes_no"),
        ("given", "llava/detail_23k.json", "llava/detail_23k.json", "detail"),
        ("given", "some/part-7.parquet", "part-*", "short"),
        ("given", "llava/conversation_58k.json", "llava/conversation_58k.json", "dialogue"),
        ("follow_up", "llava/detail_23k.json", None, None),
        ("else", "a.tar", None, None),
    ],
)
def test_a_turn_belongs_to_the_set_of_its_kind_or_source(
    kind: str, source: str, of: str | None, as_kind: str | None
) -> None:
    found = Mixture(kinds=KINDS)
    assert found.set_of(kind, source) == of
    if as_kind is not None:
        assert found.kind_of(kind, source) == as_kind


@pytest.mark.parametrize(
    ("kinds", "num_sets", "message"),
    [
        (("b.json=detail",), 1, "--mixture.kinds b.json=detail: no turns .* sources are a.json"),
        ((), MAX_SETS + 1, "65 sets to draw turns from, and at most 64"),
    ],
)
def test_what_cannot_be_mixed_is_refused(
    kinds: tuple[str, ...], num_sets: int, message: str
) -> None:
    with pytest.raises(PreflightError, match=message):
        Mixture(kinds=kinds).check([str(i) for i in range(num_sets)], ["a.json"])
    Mixture(kinds=("a.*=short",)).check(["a.json"], ["a.json"])
