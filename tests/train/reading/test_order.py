from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3l_ray.train.reading.order import Part, in_order, num_rounds, shares, windows

PARTS = tuple(
    Part(name=f"file {i}", rows=tuple(range(3, 3 + size))) for i, size in enumerate((7, 1, 12, 5))
)


def steps(first_step: int = 0, num_steps: int = 18, seed: int = 3) -> list[list[tuple[int, ...]]]:
    found = []
    for window in windows(
        PARTS, batch_size=4, seed=seed, window_images=8, first_step=first_step, num_steps=num_steps
    ):
        assert window.first_step == first_step + len(found)
        found += [[tuple(place) for place in step.tolist()] for step in window.places]
    return found


def test_an_epoch_takes_every_image_once_but_those_that_fill_no_batch() -> None:
    every = {(i, row) for i, part in enumerate(PARTS) for row in part.rows}
    all_steps = steps()
    assert len(all_steps) == 18
    for epoch in range(3):
        taken = [place for step in all_steps[6 * epoch : 6 * epoch + 6] for place in step]
        assert len(set(taken)) == 24 and set(taken) < every
    assert all_steps[:6] != all_steps[6:12]
    assert all_steps != steps(seed=4)


@pytest.mark.parametrize("first_step", [1, 2, 5, 6, 7, 13, 17, 18])
def test_a_run_goes_on_at_any_step_as_if_it_had_never_stopped(first_step: int) -> None:
    assert steps(first_step=first_step) == steps()[first_step:]


def test_a_window_reads_few_files() -> None:
    parts = tuple(Part(name=str(i), rows=tuple(range(16))) for i in range(20))
    for window in windows(
        parts, batch_size=8, seed=0, window_images=32, first_step=0, num_steps=40
    ):
        assert len({place[0] for step in window.places.tolist() for place in step}) <= 3


@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 9))
def test_shares_cut_a_batch_whole_and_evenly(
    batch_size: int, num_workers: int, micro_batch: int
) -> None:
    rounds = num_rounds(batch_size, num_workers, micro_batch)
    cut = shares(batch_size, num_workers, rounds)
    assert len(cut) == rounds * num_workers
    assert np.concatenate([np.arange(batch_size)[each] for each in cut]).tolist() == list(
        range(batch_size)
    )
    sizes = Counter(each.stop - each.start for each in cut)
    assert max(sizes) <= micro_batch and max(sizes) - min(sizes) <= 1


def test_held_out_images_are_read_in_their_order() -> None:
    batches = list(in_order(PARTS, batch_size=10))
    assert [len(batch) for batch in batches] == [10, 10, 5]
    every = [[i, row] for i, part in enumerate(PARTS) for row in part.rows]
    assert np.concatenate(batches).tolist() == every
