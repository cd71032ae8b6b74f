"""What a run will cost, computed from figures that are given."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from c3l_ray.config import GeneratorModel, Pools
from c3l_ray.errors import OverBudget
from c3l_ray.planning.cost import Devices, check_budget
from c3l_ray.planning.estimates import CONFIDENCE, Estimate, Interval
from tests.examples import MakeConfig
from tests.planning.plans import EIGHT_GPUS, make_count, make_sample_run, plan_with


def test_a_run_costs_its_images_at_the_speed_of_the_slower_pool(config: MakeConfig) -> None:
    plan = plan_with(config(price_per_hour=2.5))
    assert plan.seconds == {"generate": 2.0, "score": 0.5, "boot": 36.0}
    assert plan.images_per_s.value == pytest.approx(0.5)  # the scorer waits for the generator
    hours = (40_000 / 0.5 + 36) / 3600
    assert plan.hours.value == pytest.approx(hours)
    assert plan.device_hours.value == pytest.approx(2 * hours)
    assert plan.price is not None and plan.price.value == pytest.approx(2 * hours * 2.5)
    assert plan.turns == Interval(value=200_000, low=200_000, high=200_000)
    assert plan.usable_turns.value == pytest.approx(180_000)
    assert plan.output_bytes.value == pytest.approx(40_000 * 1500)
    assert plan.files == Interval(value=325, low=325, high=325)  # 2 x 160 + 4 + 1
    assert plan.begin == "2030-01-01T20:00:00+00:00"
    assert plan.end["value"] == "2030-01-02T18:13:56+00:00"
    assert plan.over_budget == []
    json.dumps(dataclasses.asdict(plan), allow_nan=False)


def test_the_intervals_are_those_of_the_spread_of_tokens(config: MakeConfig) -> None:
    plan = plan_with(config(price_per_hour=2.0))
    seconds = np.array([100, 140, 80, 80]) / 400 * 8.0
    half = stats.t.ppf((1 + CONFIDENCE) / 2, 3) * stats.sem(seconds)
    low, high = seconds.mean() - half, seconds.mean() + half
    assert plan.images_per_s.low == pytest.approx(1 / high)
    assert plan.images_per_s.high == pytest.approx(1 / low)
    assert plan.hours.low == pytest.approx((40_000 * low + 36) / 3600)
    assert plan.hours.high == pytest.approx((40_000 * high + 36) / 3600)
    assert plan.price is not None
    assert plan.price.high == pytest.approx(2 * 2.0 * (40_000 * high + 36) / 3600)
    assert plan.end["low"] is not None and plan.end["high"] is not None
    assert plan.end["low"] < "2030-01-02T18:13:56" < plan.end["high"]


def test_what_the_count_does_not_know_widens_them(config: MakeConfig) -> None:
    images = Estimate(value=40_000.0, error=2_000.0, freedom=31)
    counted_in_some = make_count(
        shards=400, counted_shards=32, images=images, units=images.times(1 / 250)
    )
    plan = plan_with(config(), counted_in_some)
    known = plan_with(config())
    assert plan.hours.value == pytest.approx(known.hours.value)
    assert plan.hours.high is not None and known.hours.high is not None
    assert plan.hours.high > known.hours.high
    assert plan.turns.low is not None and plan.turns.low < 200_000
    assert any("32 of 400 shards" in sentence for sentence in plan.assumptions)
    assert not any("were counted in" in sentence for sentence in known.assumptions)


def test_images_of_one_shard_count_as_one_draw_where_shards_were_drawn(config: MakeConfig) -> None:
    of_two = make_sample_run(shards=["a", "a", "b", "b"])
    counted_in_some = make_count(shards=400, counted_shards=32)
    plan = plan_with(config(), counted_in_some, of_two)
    seconds = np.array([100, 140, 80, 80]) / 400 * 8.0
    totals = np.array([sum(seconds[:2] - 2.0), sum(seconds[2:] - 2.0)])
    error = np.sqrt(2 * np.sum(totals**2)) / 4
    half = stats.t.ppf((1 + CONFIDENCE) / 2, 1) * error
    assert plan.images_per_s.low == pytest.approx(1 / (2.0 + half))


def test_more_processes_do_more_and_that_is_said(config: MakeConfig) -> None:
    plan = plan_with(config(), pools=EIGHT_GPUS, devices=Devices(kind="GPU", number=8, cores=64))
    assert plan.images_per_s.value == pytest.approx(5 * 0.5)
    assert plan.device_hours.value == pytest.approx(8 * plan.hours.value)
    assert any("5 generators and 6 scorers do as many times" in s for s in plan.assumptions)
    assert any("All GPUs of the run are like" in s for s in plan.assumptions)
    one = plan_with(config())
    assert not any("as many times" in sentence for sentence in one.assumptions)


def test_scorers_that_are_too_few_set_the_speed(config: MakeConfig) -> None:
    pools = dataclasses.replace(EIGHT_GPUS, generators=8, scorers=1)
    plan = plan_with(config(), pools=pools, devices=Devices(kind="GPU", number=9, cores=64))
    assert plan.images_per_s.value == pytest.approx(1 / 0.5)


@pytest.mark.parametrize(
    ("pools", "devices", "seconds", "place"),
    [
        (
            Pools(generators=1, scorers=1, generator_gpus=0.7, scorer_gpus=0.3),
            Devices(kind="GPU", number=1, cores=8),
            2.5,
            "share a GPU",
        ),
        (
            Pools(generators=1, scorers=1, generator_gpus=0.0, scorer_gpus=0.0),
            Devices(kind="node", number=1, cores=1),
            2.5,
            "share cores",
        ),
        (
            Pools(generators=1, scorers=1, generator_gpus=0.0, scorer_gpus=0.0),
            Devices(kind="node", number=1, cores=2),
            2.0,
            "the slower pool sets the speed",
        ),
    ],
)
def test_where_both_pools_share_devices_their_seconds_add_up(
    pools: Pools, devices: Devices, seconds: float, place: str, config: MakeConfig
) -> None:
    plan = plan_with(config(), make_count(), make_sample_run(pools=pools), pools, devices)
    assert plan.images_per_s.value == pytest.approx(1 / seconds)
    assert any(place in sentence for sentence in plan.assumptions)
    assert (plan.device, plan.devices) == (devices.kind, devices.number)


def test_another_share_of_a_gpu_than_the_samples_is_said(config: MakeConfig) -> None:
    shared = Pools(generators=1, scorers=1, generator_gpus=0.7, scorer_gpus=0.3)
    plan = plan_with(config(), sample=make_sample_run(pools=shared), pools=EIGHT_GPUS)
    assert any(
        "generator had 0.7 of a GPU, and those of the run have 1" in s for s in plan.assumptions
    )
    assert any(
        "scorer had 0.3 of a GPU, and those of the run have 0.5" in s for s in plan.assumptions
    )


def test_an_engine_that_the_sample_did_not_fill_is_said(config: MakeConfig) -> None:
    half_empty = config(model=GeneratorModel(name="m", max_seqs=256))
    (said,) = (s for s in plan_with(half_empty).assumptions if "requests at once" in s)
    assert "20 requests at once, and it takes 256" in said and "--sample 52 fills it" in said
    full = config(model=GeneratorModel(name="m", max_seqs=20))
    assert not any("requests at once" in s for s in plan_with(full).assumptions)


def test_what_is_done_is_not_done_again(config: MakeConfig) -> None:
    plan = plan_with(config(), done_images=30_000)
    assert (plan.images.value, plan.done_images, plan.images_left.value) == (40_000, 30_000, 10_000)
    assert plan.hours.value == pytest.approx((10_000 * 2.0 + 36) / 3600)
    assert plan.turns.value == pytest.approx(50_000)
    assert plan.files.value == pytest.approx(2 * 40 + 5)
    everything = plan_with(config(), done_images=40_000)
    assert (everything.images_left.value, everything.hours.value) == (0, 0)


def test_a_limit_leaves_the_other_images_out(config: MakeConfig) -> None:
    plan = plan_with(config(limit=1_000), done_images=100)
    assert plan.images == Interval(value=1_000, low=1_000, high=1_000)
    assert plan.images_left.value == 900
    assert any("The first 1,000 images" in sentence for sentence in plan.assumptions)
    assert plan_with(config(limit=50_000)).images.value == 40_000


def test_images_that_fail_take_no_time_and_give_no_turns(config: MakeConfig) -> None:
    half = make_sample_run(
        turns=[5, 0, 5, 0],
        usable_turns=[5, 0, 5, 0],
        tokens=[100, 0, 100, 0],
        reasons={"undecodable": 2},
        run=2,
        generate_s=4.0,
        score_s=1.0,
    )
    plan = plan_with(config(), sample=half)
    assert plan.turns.value == pytest.approx(100_000)
    assert plan.images_per_s.value == pytest.approx(1.0)
    assert plan.sampled_failures == {"undecodable": 2} and plan.sampled_images == 4
    message = "2 of 4 sampled images failed: a run of which so many do ends with status 4"
    assert any(sentence.startswith(message) for sentence in plan.assumptions)
    texts = dataclasses.replace(half, reasons={"text_only": 2})  # no failures
    for quiet in (
        plan_with(config(max_failed_share=0.5), sample=half),
        plan_with(config(), sample=texts),
    ):
        assert not any("status 4" in sentence for sentence in quiet.assumptions)


def test_damaged_shards_are_said(config: MakeConfig) -> None:
    plan = plan_with(config(), make_count(damaged_shards=2, damage="b.tar at byte 512"))
    assert (plan.damaged_shards, plan.damage) == (2, "b.tar at byte 512")
    assert any("damage in 2 of 4 counted shards" in sentence for sentence in plan.assumptions)


def test_of_one_image_the_spread_is_not_known(config: MakeConfig) -> None:
    one = make_sample_run(
        shards=["a"], turns=[5], usable_turns=[5], tokens=[9], record_bytes=[1.0], run=1
    )
    plan = plan_with(config(price_per_hour=1.0), sample=one)
    assert plan.hours.low is None and plan.hours.high is None
    assert plan.end["value"] is not None and plan.end["high"] is None
    assert plan.price is not None and plan.price.high is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_hours": 10.0}, r"22\.2 hours, and --max-hours is 10$"),
        ({"max_price": 50.0, "price_per_hour": 2.5}, r"a price of 111\.2, and --max-price is 50$"),
        (
            {"max_hours": 1.0, "max_price": 5.0, "price_per_hour": 2.5},
            r"--max-hours is 1; a price of 111\.2, and --max-price is 5$",
        ),
        ({"max_hours": 22.3}, None),  # within, though the interval reaches over it
        ({"max_price": 112.0, "price_per_hour": 2.5}, None),
        ({"price_per_hour": 2.5}, None),
    ],
)
def test_a_plan_over_budget_ends_with_a_status_of_its_own(
    fields: dict[str, float], message: str | None, config: MakeConfig
) -> None:
    plan = plan_with(config(**fields))
    if message is None:
        check_budget(plan)
        return
    with pytest.raises(OverBudget, match=message) as raised:
        check_budget(plan)
    assert raised.value.exit_status == 3
