import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.benchmarks import pope
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

LINE: dict[str, Any] = {
    "question_id": 1,
    "image": "COCO_val2014_000000310196.jpg",
    "text": "Is there a snowboard in the image?",
    "label": "yes",
}


def write_lines(path: Path, *lines: dict[str, Any] | str) -> Location:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(f"{text}\n" for text in texts))
    return Location.connect(str(path))


def test_the_files_of_a_folder_are_the_strategies_in_their_order(tmp_path: Path) -> None:
    for strategy in ("adversarial", "random", "popular"):
        write_lines(tmp_path / f"coco_pope_{strategy}.json", LINE, "", {**LINE, "question_id": 2})
    (tmp_path / "coco_ground_truth_objects.json").write_text("{}")
    data = pope.read_questions(Location.connect(str(tmp_path)))
    assert [question.key for question in data.questions] == [
        *("random 1", "random 2", "popular 1", "popular 2", "adversarial 1", "adversarial 2"),
    ]
    first = data.questions[0]
    assert (first.group, first.item, first.label) == ("random", "random 1", "yes")
    assert (first.image, first.prompt) == (LINE["image"], LINE["text"])
    assert data.image_root == Location.connect(str(tmp_path))


def test_the_files_of_a_okvqa_and_gqa_are_arrays_with_seem_in_their_names(tmp_path: Path) -> None:
    for strategy in ("adversarial", "random", "popular"):
        text = json.dumps([LINE, {**LINE, "question_id": 2, "label": "no"}], indent=2)
        write_lines(tmp_path / f"aokvqa_pope_seem_{strategy}.json", text)
    data = pope.read_questions(Location.connect(str(tmp_path)))
    assert [(question.key, question.label) for question in data.questions] == [
        *(("random 1", "yes"), ("random 2", "no"), ("popular 1", "yes"), ("popular 2", "no")),
        *(("adversarial 1", "yes"), ("adversarial 2", "no")),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps([LINE, 7]), ": entry 2: is int, not an object"),
        (json.dumps([LINE, {**LINE, "label": "maybe"}]), ": entry 2: the label 'maybe' is neither"),
        ("[]", ": holds no question"),
        ("[{]", ": is no JSON"),
    ],
)
def test_a_faulty_array_is_refused_by_its_entry(tmp_path: Path, text: str, message: str) -> None:
    file = write_lines(tmp_path / "mine.json", text)
    with pytest.raises(PreflightError) as refusal:
        pope.read_questions(file)
    assert str(refusal.value).startswith(f"--data {tmp_path / 'mine.json'}{message}")


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("coco_pope_popular.json", "popular"),
        ("gqa_pope_seem_adversarial.json", "adversarial"),
        ("mine.v2.jsonl", "mine.v2"),
        ("mine", "mine"),
    ],
)
def test_a_file_alone_is_a_group(tmp_path: Path, name: str, group: str) -> None:
    data = pope.read_questions(write_lines(tmp_path / name, LINE))
    assert [question.group for question in data.questions] == [group]


def test_the_digest_is_of_the_questions_and_not_of_their_place(tmp_path: Path) -> None:
    digests = []
    for name, label in (("a", "yes"), ("b", "yes"), ("c", "no")):
        (tmp_path / name).mkdir()
        line = {**LINE, "label": label}
        data = pope.read_questions(write_lines(tmp_path / name / "pope_random.json", line))
        digests.append(data.digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'question_id': 1}", "line 2: is no JSON"),
        ("[1]", "line 2: is list, not an object"),
        ({**LINE, "text": ["Is there?"]}, "line 2: text is list, not a text"),
        ({**LINE, "image": "\0.jpg"}, "line 2: image has a character that is none of a text"),
        ({**LINE, "label": "maybe"}, "line 2: the label 'maybe' is neither yes nor no"),
        ({**LINE, "label": ""}, "line 2: the label '' is neither yes nor no"),
        ({"question_id": 2, "image": "a.jpg"}, "line 2: lacks text, label"),
        (LINE, "two questions are named 'mine 1'"),
    ],
)
def test_a_faulty_line_is_refused_by_its_number(
    tmp_path: Path, line: dict[str, Any] | str, message: str
) -> None:
    file = write_lines(tmp_path / "mine.json", LINE, line)
    with pytest.raises(PreflightError) as refusal:
        pope.read_questions(file)
    assert str(refusal.value).startswith(f"--data {tmp_path / 'mine.json'}: {message}")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "cannot be read"),
        (("notes.txt",), "holds no file of POPE"),
        (
            ("a_pope_random.json", "a_pope_seem_random.json"),
            "holds a_pope_random.json and a_pope_s",
        ),
        (("a_pope_random.json", "b_pope_random.json"), "holds a_pope_random.json and b_pope_"),
    ],
)
def test_a_folder_without_one_file_of_each_strategy_is_refused(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    folder = tmp_path / "data"
    for name in names:
        folder.mkdir(exist_ok=True)
        write_lines(folder / name, LINE)
    with pytest.raises(PreflightError, match=message):
        pope.read_questions(Location.connect(str(folder)))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="holds no file of POPE"):
        pope.read_questions(Location.connect(str(tmp_path)))


def test_an_empty_file_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="holds no question"):
        pope.read_questions(write_lines(tmp_path / "empty.json", "", " "))
    (tmp_path / "image.json").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(PreflightError, match="is not UTF-8"):
        pope.read_questions(Location.connect(str(tmp_path / "image.json")))
