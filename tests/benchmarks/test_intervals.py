"""Intervals against those of a normal approximation, and where there is none."""

import random

import numpy as np
import pytest

from c3l_ray.benchmarks.answers import BenchmarkAnswer
from c3l_ray.benchmarks.intervals import find_interval
from c3l_ray.benchmarks.metrics import ACCURACY, PRECISION
from tests.benchmarks.builders import make_answer


def make_items(rights: list[bool], *, per_image: int = 1) -> list[list[BenchmarkAnswer]]:
    return [
        [make_answer(f"q{n}", "yes", "yes" if right else "no", image=f"{n // per_image}.jpg")]
        for n, right in enumerate(rights)
    ]


def test_an_interval_is_about_that_of_a_normal_approximation() -> None:
    chance = random.Random(0)
    rights = [chance.random() < 0.8 for _ in range(400)]
    share = float(np.mean(rights))
    half = 1.96 * (share * (1 - share) / 400) ** 0.5
    interval = find_interval(make_items(rights), ACCURACY)
    assert interval == pytest.approx((share - half, share + half), abs=0.006)


def test_questions_about_one_image_are_one_draw() -> None:
    chance = random.Random(0)
    rights = [right for _ in range(100) for right in [chance.random() < 0.8] * 4]
    low, high = find_interval(make_items(rights, per_image=4), ACCURACY) or (0, 0)
    low_apart, high_apart = find_interval(make_items(rights), ACCURACY) or (0, 0)
    assert (high - low) / (high_apart - low_apart) == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize("rights", [[True] * 30, [False] * 30, [True], []])
def test_images_that_are_all_alike_tell_nothing(rights: list[bool]) -> None:
    assert find_interval(make_items(rights), ACCURACY) is None


def test_a_figure_that_some_draws_have_not_has_an_interval() -> None:
    items = make_items([True, True, False, False])  # precision is of those that say yes
    items += [[make_answer("q9", "no", "yes", image="9.jpg")]]
    low, high = find_interval(items, PRECISION) or (None, None)
    assert (low, high) == (0, 1)
