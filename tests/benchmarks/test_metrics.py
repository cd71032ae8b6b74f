"""Figures against cases computed by hand, and against scikit-learn."""

import random

import pytest

from c3l_ray.benchmarks.answers import BenchmarkAnswer
from c3l_ray.benchmarks.metrics import (
    ACCURACY,
    F1,
    ITEM_ACCURACY,
    PRECISION,
    PRESENCE_METRICS,
    RECALL,
    YES_SHARE,
    group_items,
    measure_groups,
)
from tests.benchmarks.builders import make_answer

# label, verdict: 3 TP, 1 FN, 1 unreadable positive; 2 TN, 2 FP, 1 unreadable negative.
CASES = [
    *[("yes", "yes")] * 3,
    ("yes", "no"),
    ("yes", None),
    *[("no", "no")] * 2,
    *[("no", "yes")] * 2,
    ("no", None),
]


def make_answers(cases: list[tuple[str, str | None]]) -> list[BenchmarkAnswer]:
    return [make_answer(f"q{n}", label, verdict) for n, (label, verdict) in enumerate(cases)]


def test_the_five_figures_of_pope_are_those_computed_by_hand() -> None:
    table = measure_groups(group_items(make_answers(CASES)), PRESENCE_METRICS)
    assert table == {
        "random": {
            "questions": 10,
            "unreadable": 2,
            "accuracy": 5 / 10,
            "precision": 3 / 5,
            "recall": 3 / 5,
            "f1": 6 / (6 + 2 + 2),
            "yes_share": 5 / 10,
        }
    }


@pytest.mark.parametrize(
    ("seed", "accuracy", "precision", "recall", "f1"),
    [
        (0, 0.6, 0.6, 0.714286, 0.652174),
        (1, 0.35, 0.434783, 0.434783, 0.434783),
        (2, 0.475, 0.409091, 0.529412, 0.461538),
        (3, 0.4, 0.4, 0.666667, 0.5),
        (4, 0.4, 0.344828, 0.666667, 0.454545),
    ],
)
def test_readable_answers_have_the_figures_of_scikit_learn(
    seed: int, accuracy: float, precision: float, recall: float, f1: float
) -> None:
    """By version 1.9.1: each process that imports transformers imports it too where it is there."""
    rng = random.Random(seed)
    cases = [(rng.choice(["yes", "no"]), rng.choice(["yes", "no", "yes"])) for _ in range(40)]
    verdicts = [verdict for _, verdict in cases]
    items = group_items(make_answers([*cases]))["random"]
    measured = [metric.measure(items) for metric in (ACCURACY, PRECISION, RECALL, F1)]
    assert measured == pytest.approx([accuracy, precision, recall, f1], abs=1e-6)
    assert YES_SHARE.measure(items) == verdicts.count("yes") / len(verdicts)


def test_an_answer_that_cannot_be_read_is_neither_yes_nor_no() -> None:
    unread = group_items(make_answers([("no", None), ("yes", None)]))["random"]
    assert ACCURACY.measure(unread) == 0.0 and RECALL.measure(unread) == 0.0
    assert YES_SHARE.measure(unread) == 0.0 and PRECISION.measure(unread) is None


def test_an_item_counts_where_all_of_its_answers_are_right() -> None:
    answers = [
        make_answer("a 1", "yes", "yes", item="a"),
        make_answer("a 2", "no", "no", item="a"),
        make_answer("b 1", "yes", "yes", item="b"),
        make_answer("b 2", "no", "yes", item="b"),
    ]
    items = group_items(answers)["random"]
    assert ITEM_ACCURACY.measure(items) == 1 / 2 and ACCURACY.measure(items) == 3 / 4


def test_an_item_of_which_a_question_could_not_be_asked_is_left_out() -> None:
    answers = [
        make_answer("a 1", "yes", "yes", item="a"),
        make_answer("a 2", "no", None, item="a", status="failed"),
        make_answer("b 1", "no", "yes", item="b"),
        make_answer("c 1", "no", None, item="c", status="truncated"),
    ]
    table = measure_groups(group_items(answers), [ACCURACY])
    assert table["random"] == {"questions": 2, "unreadable": 1, "accuracy": 0.0}


def test_several_groups_have_a_row_of_all() -> None:
    answers = [
        make_answer("random 1", "yes", "yes"),
        make_answer("popular 1", "yes", "no", group="popular"),
        make_answer("popular 2", "no", None, group="popular", status="not_asked"),
    ]
    table = measure_groups(group_items(answers), [ACCURACY])
    assert {group: (row["questions"], row["accuracy"]) for group, row in table.items()} == {
        "random": (1, 1.0),
        "popular": (1, 0.0),
        "all": (2, 0.5),
    }


def test_equal_names_of_items_in_two_groups_are_two_items() -> None:
    answers = [
        make_answer("1", "yes", "yes", item="1", group="color"),
        make_answer("2", "yes", "no", item="1", group="count"),
    ]
    assert ITEM_ACCURACY.measure(group_items(answers)["all"]) == 0.5
