"""Schedules of rates."""

import pytest

from c3l_ray.scenes.training.loop import cosine, trapezoid


@pytest.mark.parametrize("schedule", [cosine, trapezoid])
def test_a_rate_rises_and_falls(schedule: object) -> None:
    assert callable(schedule)
    shares = [schedule(step, 400) for step in range(400)]
    top = shares.index(max(shares))
    assert shares[: top + 1] == sorted(shares[: top + 1])
    assert shares[top:] == sorted(shares[top:], reverse=True)
    assert max(shares) == 1 and shares[0] < 0.06 and shares[-1] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("step", "share"), [(0, 1 / 30), (29, 1), (299, 1), (350, 0.5), (399, 0.02)]
)
def test_a_trapezoid(step: int, share: float) -> None:
    assert trapezoid(step, 400) == pytest.approx(share)


def test_a_longer_training_begins_like_a_shorter_one() -> None:
    assert [trapezoid(s, 400) for s in range(300)] == [trapezoid(s, 4000) for s in range(300)]
