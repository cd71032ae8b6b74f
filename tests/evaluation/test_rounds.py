import math
from pathlib import Path

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.evaluation.judgement import JudgedTurn, true_share
from c3l_ray.evaluation.rounds import (
    RANKED_BY,
    compare_rounds,
    effective_num_forms,
    reweighted_true_share,
)
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.scenes.truth import Truth
from tests.evaluation.builders import make_judged_turn, make_turn, write_run

COLOUR, COUNT = "What colour is the {}?", "In a word, how many things are there?"


def make_asked_turn(question: str, truth: Truth = "true") -> JudgedTurn:
    return make_judged_turn(truth, question=question)


def test_rankings_are_by_known_scores() -> None:
    assert set(RANKED_BY) <= {*SCORE_NAMES, "random"}


def test_easier_questions_do_not_make_a_run_truer_where_it_asks_the_same() -> None:
    shapes = ("star", "circle", "square")
    hard = [make_asked_turn(COLOUR.format(shape), "false") for shape in shapes]
    easy = make_asked_turn(COUNT)
    first = [*hard, make_asked_turn(COLOUR.format("star")), *[easy] * 4]
    later = [*hard[:1], easy, easy, easy]
    assert true_share(later) == 0.75
    assert true_share(first) == 5 / 8
    assert reweighted_true_share(first, first) == 5 / 8
    assert reweighted_true_share(later, first) == 0.5


def test_a_form_that_is_never_asked_is_left_out() -> None:
    colour, count = make_asked_turn(COLOUR.format("star")), make_asked_turn(COUNT)
    assert reweighted_true_share([count], [count, colour]) == 1
    assert math.isnan(reweighted_true_share([count], [colour]))


@pytest.mark.parametrize(
    ("questions", "expected"),
    [
        ([COUNT], 1),
        ([COUNT, COUNT, COLOUR.format("star"), COLOUR.format("circle")], 2),
        (["Why?", "How so?", COUNT, COLOUR.format("star")], 4),  # each unknown one is a form
    ],
)
def test_forms_of_question(questions: list[str], expected: float) -> None:
    turns = [make_asked_turn(question) for question in questions]
    assert effective_num_forms(turns) == pytest.approx(expected)


def test_runs_are_the_columns_of_a_table(tmp_path: Path) -> None:
    true, false = make_turn(), make_turn(answer="The circle is blue.")
    write_run(tmp_path / "a", {"turns": [true]}, {"turns": [false], "image_id": "2"})
    write_run(tmp_path / "b", {"turns": [true]})
    table = compare_rounds([str(tmp_path / name) for name in "ab"])
    lines = [line.split() for line in table.splitlines()]
    assert lines[:4] == [
        ["a", "b"],
        ["turns", "about", "scenes", "2", "1"],
        ["true", "50.0", "%", "100.0", "%"],
        ["less", "that", "of", "a", "+50.0"],
    ]
    assert ["asked", "as", "in", "a", "50.0", "%", "100.0", "%"] in lines
    rankings = [line for line in lines if line and line[0] == "by"]
    assert [line[1] for line in rankings] == list(RANKED_BY)
    assert rankings[0][2:] == [*["100.0", "%"] * 2, *["100.0", "%"] * 2]  # ties: the first image


def test_a_run_without_scenes_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, {"meta": None})
    with pytest.raises(PreflightError, match="contains no turns about scenes"):
        compare_rounds([str(tmp_path)])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="not the output of a run"):
        compare_rounds([str(tmp_path / "nothing")])
