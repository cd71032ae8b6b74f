import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.benchmarks import scienceqa
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

PROBLEM: dict[str, Any] = {
    "question": "Which is a mammal?",
    "choices": ["a frog", "a whale"],
    "answer": 1,
    "hint": "Look at the picture.",
    "image": "image.png",
    "subject": "natural science",
    "split": "test",
}


def write_problems(folder: Path, problems: Any) -> Location:
    (folder / "problems.json").write_text(json.dumps(problems))
    return Location.connect(str(folder))


def test_questions_of_the_test_split_with_an_image_are_asked(tmp_path: Path) -> None:
    problems = {
        "4": PROBLEM,
        "5": {**PROBLEM, "image": None},
        "6": {**PROBLEM, "split": "val"},
        "7": {**PROBLEM, "answer": 0, "hint": "", "subject": "social science"},
    }
    folder = write_problems(tmp_path, problems)
    data = scienceqa.read_questions(folder)
    assert [(q.key, q.group, q.image, q.label) for q in data.questions] == [
        ("4", "natural science", "4/image.png", "B"),
        ("7", "social science", "7/image.png", "A"),
    ]
    assert data.questions[0].prompt == (
        "Look at the picture.\nWhich is a mammal?\nA. a frog\nB. a whale"
    )
    assert scienceqa.read_questions(folder / "problems.json") == data


@pytest.mark.parametrize("folder", ["images/test", "test", "."])
def test_images_lie_in_three_ways_and_the_questions_stay_the_same(
    tmp_path: Path, folder: str
) -> None:
    plain, other = tmp_path / "plain", tmp_path / "other"
    for path in (plain, other / folder, other / "test"):
        path.mkdir(parents=True, exist_ok=True)
    if folder == ".":
        (other / "test").rmdir()
    data = [
        scienceqa.read_questions(write_problems(path, {"4": PROBLEM})) for path in (plain, other)
    ]
    assert data[0].digest == data[1].digest
    assert data[1].image_root is not None
    assert Path(data[1].image_root.path) == other / folder


@pytest.mark.parametrize(
    ("problems", "message"),
    [
        ([], "is not an object of questions by their ids"),
        ({"4": {**PROBLEM, "split": "val"}}, "holds no question of the split test with an image"),
        ({"4": {**PROBLEM, "answer": 2}}, "question 4: the answer 2 is none of its choices"),
        ({"4": {**PROBLEM, "answer": -1}}, "question 4: the answer -1 is none of its choices"),
        ({"4": {**PROBLEM, "answer": True}}, "question 4: the answer True is none of its choices"),
        ({"4": {**PROBLEM, "choices": ["a"]}}, "question 4: has no list of 2 to 26 choices"),
        ({"4": {**PROBLEM, "choices": ["a"] * 27}}, "question 4: has no list of 2 to 26 choices"),
        ({"4": {**PROBLEM, "choices": ["a", ["b"]]}}, "question 4: choice is list, not a text"),
        ({"4": {**PROBLEM, "image": 5}}, "question 4: image is int, not a text"),
        ({"4": {**PROBLEM, "subject": [1]}}, "question 4: subject is list, not a text"),
        ({"4": {**PROBLEM, "split": None}}, "question 4: lacks split"),
        ({"4": [PROBLEM]}, "question 4: is list, not an object"),
    ],
)
def test_a_faulty_file_is_refused(tmp_path: Path, problems: Any, message: str) -> None:
    with pytest.raises(PreflightError, match=message):
        scienceqa.read_questions(write_problems(tmp_path, problems))


def test_text_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "problems.json").write_text("{")
    with pytest.raises(PreflightError, match=r"problems\.json: is no JSON"):
        scienceqa.read_questions(Location.connect(str(tmp_path)))


def test_a_folder_without_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"is a folder without problems\.json"):
        scienceqa.read_questions(Location.connect(str(tmp_path)))
