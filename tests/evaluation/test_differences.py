import numpy as np
import pytest

from c3l_ray.evaluation.differences import compare_true_shares
from c3l_ray.evaluation.judgement import JudgedTurn
from tests.evaluation.builders import make_judged_turn


def make_turns(truths_by_image: dict[str, list[bool]]) -> list[JudgedTurn]:
    return [
        make_judged_turn("true" if is_true else "false", image=image)
        for image, truths in truths_by_image.items()
        for is_true in truths
    ]


def test_the_error_is_that_of_a_bootstrap_over_images() -> None:
    rng = np.random.default_rng(0)
    before, after = {}, {}
    for number in range(300):
        ease = rng.beta(4, 1)  # turns about one image, and both runs' turns, are alike
        before[f"{number}"] = list(rng.random(rng.integers(1, 6)) < ease)
        after[f"{number}"] = list(rng.random(rng.integers(1, 6)) < ease + 0.05)
    counts = np.array(
        [[len(before[i]), sum(before[i]), len(after[i]), sum(after[i])] for i in before]
    )
    draws = rng.integers(0, len(counts), (2000, len(counts)))
    num_before, true_before, num_after, true_after = counts[draws].sum(axis=1).T
    bootstrap = true_after / num_after - true_before / num_before
    found = compare_true_shares(make_turns(after), make_turns(before))
    assert found is not None
    total = counts.sum(axis=0)
    assert found.difference == pytest.approx(total[3] / total[2] - total[1] / total[0])
    assert found.standard_error == pytest.approx(bootstrap.std(), rel=0.1)


def test_a_run_does_not_differ_from_itself() -> None:
    turns = make_turns({"a": [True, False], "b": [True]})
    found = compare_true_shares(turns, turns)
    assert found is not None and (found.difference, found.standard_error) == (0, 0)


def test_one_image_tells_nothing_of_the_spread_and_none_is_no_difference() -> None:
    turns = make_turns({"a": [True]})
    found = compare_true_shares(turns, make_turns({"a": [False]}))
    assert found is not None and (found.difference, found.standard_error) == (1, None)
    assert compare_true_shares(turns, []) is None
