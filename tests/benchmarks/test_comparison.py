"""Comparisons against cases whose answer is known: by hand, and by a normal interval."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from c3l_ray.benchmarks.answers import BenchmarkAnswer
from c3l_ray.benchmarks.bootstrap import Difference
from c3l_ray.benchmarks.comparison import compare_answers
from c3l_ray.benchmarks.metrics import ACCURACY, F1, PRECISION
from tests.benchmarks.builders import make_answer


def make_answers(verdicts: Sequence[str | None], *, per_image: int = 1) -> list[BenchmarkAnswer]:
    """Answers to questions whose labels are yes and no in turn."""
    return [
        make_answer(f"q{n}", ("yes", "no")[n % 2], verdict, image=f"{n // per_image}.jpg")
        for n, verdict in enumerate(verdicts)
    ]


def test_mcnemar_counts_what_only_one_model_has_right() -> None:
    mine = make_answers(["yes", "no"] * 10)  # all right
    theirs = make_answers(["yes", "no"] * 6 + ["no", "no"] * 4)  # four wrong
    group = compare_answers(mine, theirs, [ACCURACY])["random"]
    assert (group.items, group.only_this, group.only_other) == (20, 4, 0)
    assert group.p_value == pytest.approx(2 * 0.5**4)
    assert group.differences["accuracy"].value == pytest.approx(4 / 20)
    back = compare_answers(theirs, mine, [ACCURACY])["random"]
    assert (back.only_this, back.only_other, back.p_value) == (0, 4, group.p_value)


def test_a_model_does_not_differ_from_itself() -> None:
    mine = make_answers(["yes", "yes", None, "no"] * 5)
    group = compare_answers(mine, mine, [ACCURACY, F1])["random"]
    nothing = Difference(value=0.0, low=0.0, high=0.0)
    assert group.differences == {"accuracy": nothing, "f1": nothing}
    assert (group.only_this, group.only_other, group.p_value) == (0, 0, 1.0)


def test_the_interval_is_that_of_a_paired_mean_where_each_image_has_one_question() -> None:
    rng = random.Random(0)
    labels = [("yes", "no")[n % 2] for n in range(400)]
    other = {"yes": "no", "no": "yes"}
    mine = make_answers([label if rng.random() < 0.8 else other[label] for label in labels])
    theirs = make_answers([label if rng.random() < 0.7 else other[label] for label in labels])
    found = compare_answers(mine, theirs, [ACCURACY])["random"].differences["accuracy"]
    gains = np.array([a.is_right - float(b.is_right) for a, b in zip(mine, theirs, strict=True)])
    half = stats.norm.ppf(0.975) * gains.std() / np.sqrt(len(gains))
    assert found.value == pytest.approx(gains.mean())
    assert found.low == pytest.approx(gains.mean() - half, abs=0.01)
    assert found.high == pytest.approx(gains.mean() + half, abs=0.01)


def test_questions_about_one_image_are_drawn_together() -> None:
    """Twenty answers about an image that agree tell as much as one."""
    verdicts = [("yes", "no")[n % 2] for n in range(400)]
    wrong: list[str | None] = [
        "no" if n // 20 % 4 == 0 and n % 2 == 0 else v  # whole images
        for n, v in enumerate(verdicts)
    ]
    widths = []
    for per_image in (1, 20):
        mine = make_answers([*verdicts], per_image=per_image)
        theirs = make_answers(wrong, per_image=per_image)
        found = compare_answers(mine, theirs, [ACCURACY])["random"].differences["accuracy"]
        assert found.low is not None and found.high is not None
        widths.append(found.high - found.low)
    assert widths[1] > 2 * widths[0]


def test_only_items_that_both_answered_are_compared() -> None:
    mine = make_answers(["yes", "no", "yes"])
    theirs = [
        make_answer("q0", "yes", "no", image="0.jpg"),
        make_answer("q1", "no", None, image="1.jpg", status="failed"),
        make_answer("q2", "yes", "yes", image="2.jpg"),
    ]
    group = compare_answers(mine, theirs, [ACCURACY])["random"]
    assert (group.items, group.only_this) == (2, 1)
    assert group.differences["accuracy"].value == 0.5


def test_a_figure_that_a_side_lacks_has_no_difference_and_one_image_no_interval() -> None:
    mine, theirs = make_answers(["yes", "no"]), make_answers(["no", "no"])
    differences = compare_answers(mine, theirs, [ACCURACY, PRECISION])["random"].differences
    assert differences["precision"] == Difference(value=None)  # the other never says yes
    alone = compare_answers(
        make_answers(["yes", "no"], per_image=2),
        make_answers(["no", "no"], per_image=2),
        [ACCURACY],
    )
    assert alone["random"].differences["accuracy"] == Difference(value=0.5)


def test_a_resample_without_a_figure_is_left_out() -> None:
    mine = make_answers(["yes", "no", "no", "no"])
    theirs = make_answers(["yes", "yes", "no", "no"])
    found = compare_answers(mine, theirs, [PRECISION])["random"].differences["precision"]
    assert found.value == 0.5 and found.low is not None and found.high is not None
