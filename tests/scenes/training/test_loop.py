"""Schedules of learning rates."""

import pytest

from c3l_ray.scenes.training.loop import Schedule, cosine_schedule, trapezoid_schedule


@pytest.mark.parametrize("schedule", [cosine_schedule, trapezoid_schedule])
def test_a_rate_rises_and_falls(schedule: Schedule) -> None:
    shares = [schedule(step, 400) for step in range(400)]
    peak = shares.index(max(shares))
    assert shares[: peak + 1] == sorted(shares[: peak + 1])
    assert shares[peak:] == sorted(shares[peak:], reverse=True)
    assert max(shares) == 1 and shares[0] < 0.06 and shares[-1] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("step", "share"), [(0, 1 / 30), (29, 1), (299, 1), (350, 0.5), (399, 0.02)]
)
def test_a_trapezoid_has_three_parts(step: int, share: float) -> None:
    assert trapezoid_schedule(step, 400) == pytest.approx(share)


def test_a_longer_training_begins_like_a_shorter_one() -> None:
    for step in range(300):
        assert trapezoid_schedule(step, 400) == trapezoid_schedule(step, 4000)
