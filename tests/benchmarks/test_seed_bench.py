import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.benchmarks import seed_bench
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

QUESTION: dict[str, Any] = {
    "question_id": "101669",
    "question_type_id": 5,
    "question": "How many towels are in the image?",
    "choice_a": "One",
    "choice_b": "Two",
    "choice_c": "Three",
    "choice_d": "Four",
    "answer": "C",
    "data_id": "1454426_2591111986",
    "data_type": "image",
}


def write_file(folder: Path, *questions: Any) -> Location:
    content = {"questions": questions, "question_type": {"Instances Counting": 5}}
    (folder / "SEED-Bench.json").write_text(json.dumps(content))
    return Location.connect(str(folder))


def test_questions_about_images_are_asked_by_their_type(tmp_path: Path) -> None:
    video = {**QUESTION, "question_id": "v", "data_type": "video"}
    unknown = {**QUESTION, "question_id": "2", "question_type_id": 77, "answer": "A"}
    folder = write_file(tmp_path, QUESTION, video, unknown)
    data = seed_bench.read_questions(folder)
    assert [(q.key, q.group, q.image, q.label) for q in data.questions] == [
        ("101669", "Instances Counting", "1454426_2591111986", "C"),
        ("2", "type 77", "1454426_2591111986", "A"),
    ]
    assert data.questions[0].prompt == (
        "How many towels are in the image?\nA. One\nB. Two\nC. Three\nD. Four"
    )
    assert seed_bench.read_questions(folder / "SEED-Bench.json") == data


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        (({**QUESTION, "answer": "E"},), "question number 1: the answer 'E' is not A, B, C or D"),
        (({**QUESTION, "answer": ["A"]},), "question number 1: answer is list, not a text"),
        (({**QUESTION, "question": 5},), "question number 1: question is int, not a text"),
        (({**QUESTION, "choice_a": {}},), "question number 1: choice_a is dict, not a text"),
        ((QUESTION, 5), "question number 2: is int, not an object"),
        (({**QUESTION, "choice_d": None},), "question number 1: lacks choice_d"),
        (({**QUESTION, "data_type": "video"},), "holds no question about an image"),
        ((QUESTION, QUESTION), "two questions are named '101669'"),
    ],
)
def test_a_faulty_question_is_refused(
    tmp_path: Path, questions: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(PreflightError, match=message):
        seed_bench.read_questions(write_file(tmp_path, *questions))


def test_a_choice_may_be_a_number(tmp_path: Path) -> None:
    data = seed_bench.read_questions(write_file(tmp_path, {**QUESTION, "choice_b": 2}))
    assert data.questions[0].options == {"A": "One", "B": "2", "C": "Three", "D": "Four"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", r"is not SEED-Bench\.json"),
        ('{"questions": []}', r"is not SEED-Bench\.json"),
        ('{"question_type": {}}', r"is not SEED-Bench\.json"),
        ('{"questions": null, "question_type": {}}', r"is not SEED-Bench\.json"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "SEED-Bench.json").write_text(text)
    with pytest.raises(PreflightError, match=message):
        seed_bench.read_questions(Location.connect(str(tmp_path)))


@pytest.mark.parametrize("other", [True, False])
def test_a_folder_without_the_file_is_refused(tmp_path: Path, other: bool) -> None:
    if other:
        (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(PreflightError, match=r"is a folder without SEED-Bench\.json"):
        seed_bench.read_questions(Location.connect(str(tmp_path)))
