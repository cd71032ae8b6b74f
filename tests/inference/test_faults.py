"""A failing batch is halved down to what fails, and memory that comes back is waited for."""

import time
from collections.abc import Sequence

import pytest
import torch

from c3l_ray.errors import C3LError
from c3l_ray.inference import faults
from c3l_ray.inference.faults import Fault, advise_memory, measure_by_halves, wait_for_memory
from c3l_ray.model_config import Pools, ScorerPool


class Meter:
    """Doubles numbers, fails on some, and holds no more than a number of them at once."""

    def __init__(self, bad: Sequence[int], capacity: int = 10**6) -> None:
        self.bad = set(bad)
        self.capacity = capacity
        self.batches: list[list[int]] = []

    def measure(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        if len(numbers) > self.capacity:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if bad := self.bad.intersection(numbers):
            raise ValueError(f"cannot measure {min(bad)}\nat all")
        return [2 * number for number in numbers]


IMAGES = [object() for _ in range(4)]


def image_of(number: int) -> object:
    """Of five numbers each."""
    return IMAGES[number // 5]


def test_only_what_fails_alone_is_a_fault() -> None:
    results = measure_by_halves(range(20), Meter([3, 17]).measure, image_of)
    expected: list[int | Fault] = [2 * number for number in range(20)]
    for number in (3, 17):
        expected[number] = Fault("ValueError", f"cannot measure {number}")
    assert results == expected
    assert str(results[3]) == "ValueError: cannot measure 3"


def test_a_batch_that_does_not_fit_is_measured_in_parts() -> None:
    meter = Meter([], capacity=3)
    assert measure_by_halves(range(20), meter.measure, image_of) == list(range(0, 40, 2))


def test_images_are_parted_before_turns() -> None:
    meter = Meter([7])
    measure_by_halves(range(20), meter.measure, image_of)
    assert meter.batches[:4] == [
        list(range(20)),
        list(range(10)),
        list(range(5)),
        list(range(5, 10)),
    ]
    assert [10, 11, 12, 13, 14, 15, 16, 17, 18, 19] in meter.batches  # the good half stays whole
    assert measure_by_halves([], meter.measure, image_of) == []


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


def test_memory_that_comes_back_is_waited_for(pauses: list[float]) -> None:
    missing = [True, True, False]

    def load() -> str:
        if missing.pop(0):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return "loaded"

    assert wait_for_memory(load, "the scorer m", "Buy more.") == "loaded"
    assert pauses == [faults.MEMORY_PAUSE_S] * 2


def test_memory_that_does_not_come_back_is_said(pauses: list[float]) -> None:
    def load() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(C3LError, match=r"the scorer m does not fit .* of memory\. Buy more"):
        wait_for_memory(load, "the scorer m", "Buy more.")
    assert len(pauses) == faults.MEMORY_ATTEMPTS


def test_other_failures_of_a_start_are_no_reason_to_wait(pauses: list[float]) -> None:
    def load() -> None:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        wait_for_memory(load, "the scorer m", "Buy more.")
    assert pauses == []


@pytest.mark.parametrize(
    ("pools", "advice"),
    [
        (
            Pools(scorer_gpus=0.5),
            "Give it a GPU of its own with --pools.scorer-gpus 1, or the engine less with "
            "--model.gpu-memory",
        ),
        (ScorerPool(scorer_gpus=0.5), "Give it a GPU of its own with --pools.scorer-gpus 1"),
        (
            Pools(scorer_gpus=1.0),
            "Give it more GPUs with --pools.scorer-gpus 2, or name a smaller model as "
            "--scorer.name",
        ),
        (
            ScorerPool(scorer_gpus=2.0),
            "Give it more GPUs with --pools.scorer-gpus 3, or name a smaller model as "
            "--scorer.name",
        ),
    ],
)
def test_the_advice_is_what_the_job_can_do(pools: ScorerPool, advice: str) -> None:
    assert advise_memory(pools) == advice
