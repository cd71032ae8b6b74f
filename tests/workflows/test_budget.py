"""How long a command may work, by hours and by price, with the cluster's devices given."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from c3l_ray import stopping
from c3l_ray.distributed import cluster
from c3l_ray.errors import Stopped
from c3l_ray.model_config import Pools, ScorerPool
from c3l_ray.workflows import budget
from c3l_ray.workflows.budget import count_gpus, hold_to_hours, hold_to_price
from tests.examples import MakeConfig


@pytest.fixture(autouse=True)
def handled() -> Iterator[None]:
    with stopping.handled():
        yield


def seconds_left() -> float:
    return signal.getitimer(signal.ITIMER_REAL)[0]


def test_hours_bound_the_time_and_none_leave_it_open(config: MakeConfig) -> None:
    before = seconds_left()  # of pytest's own timeout
    hold_to_hours(config())
    assert seconds_left() == pytest.approx(before, abs=5)
    hold_to_hours(config(max_hours=2.0))
    assert seconds_left() == pytest.approx(7200, abs=5)


@pytest.mark.parametrize(
    ("devices", "hours"), [(("GPU", 10), 4.0), (("node", 2), 20.0), (("GPU", 1), 40.0)]
)
def test_a_price_lasts_for_so_many_hours_of_all_devices(
    devices: tuple[str, int], hours: float, config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "count_devices", lambda gpus: devices)
    hold_to_price(config(max_price=100.0, price_per_hour=2.5), 10.0)
    assert seconds_left() == pytest.approx(3600 * hours, abs=5)


def test_of_hours_and_price_the_shorter_one_counts(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "count_devices", lambda gpus: ("GPU", 10))
    fields: dict[str, Any] = {"max_price": 100.0, "price_per_hour": 2.5}
    for max_hours, hours in ((3.0, 3.0), (5.0, 3.0), (1.0, 1.0)):
        hold_to_hours(config(max_hours=max_hours, **fields))
        hold_to_price(config(max_hours=max_hours, **fields), 10.0)
        assert seconds_left() == pytest.approx(3600 * hours, abs=5)


def test_pools_hold_the_gpus_of_all_their_processes() -> None:
    pools = Pools(generators=5, generator_gpus=1.0, scorers=6, scorer_gpus=0.5)
    assert count_gpus(pools) == 8.0
    assert count_gpus(ScorerPool(scorers=3, scorer_gpus=1.0)) == 3.0
    assert count_gpus(Pools(generators=1, scorers=1, generator_gpus=0.0, scorer_gpus=0.0)) == 0.0


def test_a_budget_of_the_run_lacks_what_earlier_commands_have_used(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where KubeRay begins a job again, whose hours would begin anew each time."""
    monkeypatch.setattr(cluster, "count_devices", lambda gpus: ("GPU", 10))
    monkeypatch.setattr(budget, "measure_earlier_commands", lambda _: 3600.0)
    fields: dict[str, Any] = {"max_hours": 3.0, "max_price": 100.0, "price_per_hour": 2.5}
    for changes, hours in (
        ({}, 3.0),
        ({"budget_of": "run"}, 2.0),
        ({"budget_of": "run", "max_price": 50.0}, 1.0),
    ):
        hold_to_price(config(**{**fields, **changes}), 10.0)
        hold_to_hours(config(**{**fields, **changes}))
        assert seconds_left() == pytest.approx(3600 * hours, abs=5)


def test_a_budget_that_is_used_up_stops_the_command(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "measure_earlier_commands", lambda _: 2 * 3600.0)
    with pytest.raises(Stopped, match="--max-hours 2 --budget-of run") as raised:
        hold_to_price(config(max_hours=2.0, budget_of="run"), 10.0)
        time.sleep(5)
    assert raised.value.exit_status == 5
