import base64
import csv
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.benchmarks import mmbench
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

IMAGE = base64.b64encode(bytes(range(100))).decode()
ROW: dict[str, Any] = {
    "index": 241,
    "question": "Which shape is it?",
    "hint": "Look at the corners.",
    "A": "circle",
    "B": "square",
    "C": "star",
    "D": "",
    "answer": "B",
    "category": "shapes",
    "image": IMAGE,
}


def write_tsv(path: Path, *rows: dict[str, Any]) -> Location:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]], delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return Location.connect(str(path))


def test_the_options_of_a_question_take_turns(tmp_path: Path) -> None:
    data = mmbench.read_questions(write_tsv(tmp_path / "dev.tsv", ROW))
    assert [(q.key, q.item, q.group, q.label) for q in data.questions] == [
        ("241", "241", "shapes", "B"),
        ("1000241", "241", "shapes", "A"),
        ("2000241", "241", "shapes", "C"),
    ]
    for question in data.questions:
        assert question.options[question.label] == "square"
    assert data.questions[1].prompt == (
        "Look at the corners.\nWhich shape is it?\nA. square\nB. star\nC. circle"
    )


def test_the_text_nan_is_no_option_hint_or_category(tmp_path: Path) -> None:
    row = {**ROW, "hint": "nan", "D": "nan", "category": "NaN"}
    data = mmbench.read_questions(write_tsv(tmp_path / "dev.tsv", row))
    assert [(q.group, q.prompt) for q in data.questions[:1]] == [
        ("all questions", "Which shape is it?\nA. circle\nB. square\nC. star")
    ]
    assert len(data.questions) == 3


def test_a_file_that_has_the_turns_is_taken_as_it_is(tmp_path: Path) -> None:
    turned = {**ROW, "index": 1_000_241, "A": "square", "B": "circle", "answer": "A", "image": 241}
    data = mmbench.read_questions(write_tsv(tmp_path / "dev.tsv", turned, ROW))
    assert [(q.key, q.item, q.label) for q in data.questions] == [
        ("1000241", "241", "A"),
        ("241", "241", "B"),
    ]
    assert data.questions[0].image == data.questions[1].image


def test_the_images_are_those_of_the_file_each_once(tmp_path: Path) -> None:
    other = {**ROW, "index": 242, "image": base64.b64encode(b"other" * 20).decode()}
    same = {**ROW, "index": 243}
    data = mmbench.read_questions(write_tsv(tmp_path / "dev.tsv", ROW, other, same))
    images = dict(data.read_images())
    assert data.image_root is None and sorted(images.values()) == [bytes(range(100)), b"other" * 20]
    assert {question.image for question in data.questions} == images.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": "x"}, "row 1: the index 'x' is no number"),
        ({"index": "9" * 5_000}, "row 1: the index '9999"),
        ({"question": "nan"}, "index 241: lacks question"),
        ({"answer": "D"}, "index 241: the answer 'D' is none of its options"),
        ({"answer": ""}, "index 241: the answer '' is none of its options; splits without answers"),
        ({"B": "", "C": ""}, "index 241: its options are A"),
        ({"B": ""}, "index 241: its options are A, C"),
        ({"image": 7}, "index 241: its image is that of row '7', which has none"),
        ({"image": "?" * 100}, "index 241: the image is not base64"),
    ],
)
def test_a_faulty_row_is_refused_by_its_index(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    file = write_tsv(tmp_path / "dev.tsv", {**ROW, **change})
    with pytest.raises(PreflightError, match=message):
        mmbench.read_questions(file)


def test_a_file_without_the_columns_is_refused(tmp_path: Path) -> None:
    file = write_tsv(tmp_path / "dev.tsv", {"index": 1, "question": "?", "image": IMAGE})
    with pytest.raises(PreflightError, match="lacks the columns A, B, answer; it has index, quest"):
        mmbench.read_questions(file)


@pytest.mark.parametrize("name", ["MMBench_DEV_EN.tsv", "mine.tsv", None])
def test_a_folder_is_refused_with_a_file_to_name(tmp_path: Path, name: str | None) -> None:
    if name:
        write_tsv(tmp_path / name, ROW)
    message = f"is a folder; name a file, such as {name or 'MMBench_DEV_EN.tsv'}"
    with pytest.raises(PreflightError, match=message):
        mmbench.read_questions(Location.connect(str(tmp_path)))


def test_two_rows_of_one_index_are_refused(tmp_path: Path) -> None:
    file = write_tsv(tmp_path / "dev.tsv", ROW, ROW)
    with pytest.raises(PreflightError, match="two questions are named '241'"):
        mmbench.read_questions(file)
