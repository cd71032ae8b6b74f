"""Differences of MME's scores against cases by hand, and against normal intervals."""

import random
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from scipy import stats

from c3l_ray.benchmarks.answers import BenchmarkAnswer
from c3l_ray.benchmarks.bootstrap import Difference
from c3l_ray.benchmarks.comparison import GroupComparison, compare_answers
from c3l_ray.benchmarks.metrics import ACCURACY, ITEM_ACCURACY
from tests.benchmarks.builders import make_answer

HALVES = {"perception": ("existence", "count"), "cognition": ("code_reasoning",)}
Pair = tuple[bool, bool]
"""Whether the two answers about an image are right."""


def answer_images(subtask: str, pairs: Sequence[Pair]) -> list[BenchmarkAnswer]:
    return [
        make_answer(
            f"{subtask} {image} {label}",
            label,
            label if is_right else None,
            group=subtask,
            item=f"{subtask} {image}",
            image=f"{subtask}/{image}.jpg",
        )
        for image, pair in enumerate(pairs)
        for label, is_right in zip(("yes", "no"), pair, strict=True)
    ]


def compare(
    mine: Mapping[str, Sequence[Pair]], theirs: Mapping[str, Sequence[Pair]]
) -> dict[str, GroupComparison]:
    answers, others = (
        [answer for subtask, pairs in side.items() for answer in answer_images(subtask, pairs)]
        for side in (mine, theirs)
    )
    return compare_answers(answers, others, (ACCURACY, ITEM_ACCURACY), HALVES)


def draw_pairs(share: float, num_images: int, seed: str) -> list[Pair]:
    rng = random.Random(seed)
    return [(rng.random() < share, rng.random() < share) for _ in range(num_images)]


def find_half_width(mine: Sequence[Pair], theirs: Sequence[Pair]) -> float:
    """Half of the normal 95 % interval of a subtask's score, from one sum of points per image."""
    points = [
        100 * (sum(pair) / 2 + all(pair) - sum(other) / 2 - all(other))
        for pair, other in zip(mine, theirs, strict=True)
    ]
    return float(stats.norm.ppf(0.975) * np.std(points) / np.sqrt(len(points)))


def test_a_score_differs_by_the_points_of_its_subtask_and_a_half_by_their_sum() -> None:
    right, half, wrong = (True, True), (True, False), (False, False)
    groups = compare(
        {"existence": [right, right], "count": [right, half], "code_reasoning": [wrong, half]},
        {"existence": [right, half], "count": [half, half], "code_reasoning": [wrong, half]},
    )
    scores = {name: group.differences["score"] for name, group in groups.items()}
    # 100 + 100 less 75 + 50; 75 + 50 less 50 + 0
    assert (scores["existence"].value, scores["count"].value) == (75, 75)
    assert scores["perception"].value == 150
    assert scores["code_reasoning"] == scores["cognition"] == Difference(value=0, low=0, high=0)
    assert scores["all"] == Difference(value=None)
    assert [*groups] == [*HALVES["perception"], *HALVES["cognition"], "all", *HALVES]
    perception = groups["perception"]
    assert (perception.items, perception.only_this, perception.only_other) == (4, 2, 0)
    assert perception.differences["accuracy"] == Difference(value=None)  # as in the figures


def test_intervals_are_those_of_sums_over_images_drawn_within_each_subtask() -> None:
    """Subtasks of as many images are drawn apart: drawn alike, the half's would be too wide."""
    subtasks = HALVES["perception"]
    mine = {name: draw_pairs(0.8, 300, f"mine {name}") for name in subtasks}
    theirs = {name: draw_pairs(0.6, 300, f"theirs {name}") for name in subtasks}
    mine["count"], theirs["count"] = mine["existence"], theirs["existence"]
    scores = {name: group.differences["score"] for name, group in compare(mine, theirs).items()}
    width = find_half_width(mine["existence"], theirs["existence"])
    for name, expected in (("existence", width), ("count", width), ("perception", 2**0.5 * width)):
        found = scores[name]
        assert found.value is not None and found.low is not None and found.high is not None
        assert found.high - found.value == pytest.approx(expected, rel=0.1)
        assert found.value - found.low == pytest.approx(expected, rel=0.1)
    assert "cognition" not in scores


def test_a_half_with_a_subtask_of_one_image_has_no_interval() -> None:
    pairs = [(True, True), (True, False), (False, False)]
    groups = compare(
        {"existence": pairs, "count": [(True, True)]},
        {"existence": pairs[::-1], "count": [(True, False)]},
    )
    assert groups["existence"].differences["score"].low is not None
    assert groups["count"].differences["score"] == Difference(value=150)
    assert groups["perception"].differences["score"] == Difference(value=150)
