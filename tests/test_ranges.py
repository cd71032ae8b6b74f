from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.model_config import GeneratorModel
from c3l_ray.ranges import Conflicts, Range, check_config
from c3l_ray.train.training_config import Optimization, TrainingOptions, Workers
from c3l_ray.train.tuning_config import TuningOptions
from c3l_ray.workflows.c3l_config import C3LConfig

NAN = float("nan")


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "text"),
    [
        (Range(min=1), (1, 2, 10**9), (0, -1, 0.5), "at least 1"),
        (Range(above=0), (0.1, 5), (0, -1), "above 0"),
        (Range(max=10), (10, -3), (11,), "at most 10"),
        (Range(below=1), (0.99, -5), (1, 2), "below 1"),
        (Range(min=0, max=1), (0, 0.5, 1), (-0.1, 1.1), "in [0, 1]"),
        (Range(above=0, max=1), (0.1, 1), (0, 1.1), "in (0, 1]"),
        (Range(min=0, below=1), (0, 0.99), (-0.1, 1), "in [0, 1)"),
        (Range(above=0, below=1), (0.5,), (0, 1), "in (0, 1)"),
        (Range(), (-1, 0, 1), (), ""),
    ],
)
def test_each_kind_of_bound_holds_and_says_what_it_is(
    bounds: Range, inside: tuple[float, ...], outside: tuple[float, ...], text: str
) -> None:
    assert all(map(bounds.holds, inside))
    assert not any(map(bounds.holds, (*outside, NAN)))
    assert str(bounds) == text


@dataclass(frozen=True, kw_only=True)
class Inner:
    low_rate: Annotated[float | None, Range(above=0, max=1)] = None
    many_sizes: Annotated[tuple[int, ...], Range(min=1)] = ()
    names: tuple[str, ...] = ()
    is_fast: bool = False
    is_safe: bool = True

    def conflicts(self) -> Conflicts:
        if len(set(self.names)) < len(self.names):
            yield "names", "must differ"
        if self.is_fast:
            yield "is_fast", "is too fast"
        if not self.is_safe:
            yield "is_safe", "is not safe"


@dataclass(frozen=True, kw_only=True)
class Middle:
    inner: Inner = field(default_factory=Inner)

    def conflicts(self) -> Conflicts:
        if self.inner.low_rate == 1:
            yield "inner.low_rate", "must be below 1 here"


@dataclass(frozen=True, kw_only=True)
class Outer:
    middle_part: Middle = field(default_factory=Middle)
    count: Annotated[int, Range(min=1)] = 1

    def __post_init__(self) -> None:
        check_config(self)


def make_outer(**inner: Any) -> Outer:
    return Outer(middle_part=Middle(inner=Inner(**inner)))


def test_values_within_their_ranges_and_none_are_taken() -> None:
    make_outer(low_rate=0.5, many_sizes=(1, 2), names=("a", "b"))
    make_outer(low_rate=None, many_sizes=())


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ({"low_rate": 0.0}, "--middle-part.inner.low-rate 0.0: must be in (0, 1]"),
        ({"low_rate": NAN}, "--middle-part.inner.low-rate nan: must be in (0, 1]"),
        ({"many_sizes": (3, 0)}, "--middle-part.inner.many-sizes 0: must be at least 1"),
        ({"names": ("a", "a")}, "--middle-part.inner.names a a: must differ"),
        ({"is_fast": True}, "--middle-part.inner.is-fast: is too fast"),
        ({"is_safe": False}, "--middle-part.inner.no-is-safe: is not safe"),
        ({"low_rate": 1.0}, "--middle-part.inner.low-rate 1.0: must be below 1 here"),
    ],
)
def test_a_fault_is_named_by_its_whole_path(inner: dict[str, Any], message: str) -> None:
    with pytest.raises(PreflightError) as raised:
        make_outer(**inner)
    assert str(raised.value) == message
    Inner(**inner)  # the root of the job's config alone checks


def test_the_first_fault_in_the_order_of_the_fields_is_told() -> None:
    with pytest.raises(PreflightError, match="low-rate 2"):
        Outer(middle_part=Middle(inner=Inner(low_rate=2.0)), count=0)


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"tuning": TuningOptions(lora_rank=0)}, "--tuning.lora-rank 0: must be at least 1"),
        (
            {"training": TrainingOptions(optim=Optimization(batch_size=0), workers=Workers(num=0))},
            "--training.optim.batch-size 0: must be at least 1",
        ),
        (
            {"training": TrainingOptions(optim=Optimization(batch_size=1), workers=Workers(num=2))},
            "--training.optim.batch-size 1: must be at least 2, the number of workers",
        ),
        (
            {"training": TrainingOptions(workers=Workers(num=2, min=3))},
            "--training.workers.min 3: must be at most the number of workers, 2",
        ),
    ],
)
def test_a_flag_of_jobs_c3l_is_named_with_its_whole_path(fields: dict[str, Any], flag: str) -> None:
    with pytest.raises(PreflightError, match=flag):
        C3LConfig(input=("in",), output="out", model=GeneratorModel(name="m"), **fields)
