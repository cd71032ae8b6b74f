from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3l_ray.train.reading.order import (
    FileRows,
    Schedule,
    iter_unshuffled,
    plan_epochs,
    split_batch,
)
from c3l_ray.train.training_config import Optimization

FILES = tuple(
    FileRows(address=f"file {number}", rows=tuple(range(3, 3 + size)))
    for number, size in enumerate((7, 1, 12, 5))
)
ALL_ROWS = [(number, row) for number, file in enumerate(FILES) for row in file.rows]


def list_steps(
    first_step: int = 0, num_steps: int = 18, seed: int = 3
) -> list[list[tuple[int, ...]]]:
    """The rows of each step."""
    schedule = Schedule(
        batch_size=4, seed=seed, shuffle_window=8, first_step=first_step, num_steps=num_steps
    )
    steps: list[list[tuple[int, ...]]] = []
    for window in plan_epochs(FILES, schedule):
        assert window.first_step == first_step + len(steps)
        steps += [[tuple(row) for row in step.tolist()] for step in window.rows]
    return steps


def test_an_epoch_takes_every_image_once_but_those_that_fill_no_batch() -> None:
    steps = list_steps()
    assert len(steps) == 18
    for epoch in range(3):
        rows = [row for step in steps[6 * epoch : 6 * epoch + 6] for row in step]
        assert len(set(rows)) == 24 and set(rows) < set(ALL_ROWS)
    assert steps[:6] != steps[6:12]
    assert steps != list_steps(seed=4)


@pytest.mark.parametrize("first_step", [1, 2, 5, 6, 7, 13, 17, 18])
def test_a_run_resumes_at_any_step_as_if_it_had_never_stopped(first_step: int) -> None:
    assert list_steps(first_step=first_step) == list_steps()[first_step:]


def test_a_window_reads_few_files() -> None:
    files = tuple(FileRows(address=str(number), rows=tuple(range(16))) for number in range(20))
    schedule = Schedule(batch_size=8, seed=0, shuffle_window=32, first_step=0, num_steps=40)
    for window in plan_epochs(files, schedule):
        assert len({row[0] for step in window.rows.tolist() for row in step}) <= 3


@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 9))
def test_micro_batches_cut_a_batch_whole_and_evenly(
    batch_size: int, num_workers: int, micro_batch: int
) -> None:
    optim = Optimization(batch_size=batch_size, micro_batch=micro_batch)
    accumulation_steps = optim.count_accumulation_steps(num_workers)
    parts = split_batch(batch_size, num_workers, accumulation_steps)
    assert len(parts) == accumulation_steps * num_workers
    assert np.concatenate([np.arange(batch_size)[part] for part in parts]).tolist() == list(
        range(batch_size)
    )
    sizes = Counter(part.stop - part.start for part in parts)
    assert max(sizes) <= micro_batch and max(sizes) - min(sizes) <= 1


def test_held_out_images_are_read_in_their_order() -> None:
    batches = list(iter_unshuffled(FILES, batch_size=10))
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert np.concatenate(batches).tolist() == [list(row) for row in ALL_ROWS]
