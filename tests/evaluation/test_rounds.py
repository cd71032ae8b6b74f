"""The table that compares runs about scenes."""

import math

import pytest

from c3l_ray.evaluation import rounds
from c3l_ray.evaluation.judgement import Judged

COLOUR, COUNT = "What colour is the {}?", "In a word, how many things are there?"


def turn(question: str, truth: str = "true", kind: str = "dialogue") -> Judged:
    return Judged(image="", truth=truth, turn={"question": question, "kind": kind})


def test_a_run_that_asks_easier_questions_is_no_truer_where_it_asks_the_same() -> None:
    hard = [turn(COLOUR.format(s), "false") for s in ("star", "circle", "square")]
    first = [*hard, turn(COLOUR.format("star")), *[turn(COUNT)] * 4]
    later = [*hard[:1], turn(COUNT), turn(COUNT), turn(COUNT)]
    assert rounds.truthful_share(later) == 0.75 > rounds.truthful_share(first) == 5 / 8
    assert rounds.true_if_asked(first, first) == 5 / 8
    assert rounds.true_if_asked(later, first) == 0.5


def test_a_form_that_is_never_asked_is_left_out() -> None:
    assert rounds.true_if_asked([turn(COUNT)], [turn(COUNT), turn(COLOUR.format("star"))]) == 1
    assert math.isnan(rounds.true_if_asked([turn(COUNT)], [turn(COLOUR.format("star"))]))


@pytest.mark.parametrize(
    ("questions", "expected"),
    [
        ([COUNT], 1),
        ([COUNT, COUNT, COLOUR.format("star"), COLOUR.format("circle")], 2),
        (["Why?", "How so?", COUNT, COLOUR.format("star")], 4),  # unknown ones are their own forms
    ],
)
def test_forms_of_question(questions: list[str], expected: float) -> None:
    assert rounds.num_forms([turn(question) for question in questions]) == pytest.approx(expected)
