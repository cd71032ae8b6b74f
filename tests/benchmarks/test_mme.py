from pathlib import Path

import pytest

from c3l_ray.benchmarks import mme
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

YES = "Is there a cat? Please answer yes or no.\tYes\n"
NO = "Is there a dog? Please answer yes or no.\tNo\n"


def write_release(folder: Path) -> None:
    """Two subtasks, in the two ways in which the official release has them."""
    (folder / "color").mkdir(parents=True)
    (folder / "color" / "000000000285.txt").write_text(YES + NO)
    (folder / "color" / "000000000285.jpg").write_bytes(b"image")
    (folder / "artwork" / "images").mkdir(parents=True)
    (folder / "artwork" / "questions_answers_YN").mkdir()
    (folder / "artwork" / "questions_answers_YN" / "10002.txt").write_text(YES + NO)
    (folder / "artwork" / "images" / "10002.png").write_bytes(b"image")
    (folder / "eval_tool").mkdir()


def test_subtasks_lie_in_two_ways_and_come_in_the_scripts_order(tmp_path: Path) -> None:
    write_release(tmp_path)
    data = mme.read_questions(Location.connect(str(tmp_path)))
    found = [(q.key, q.group, q.item, q.image, q.label) for q in data.questions]
    assert found == [
        ("color 000000000285 1", "color", "color 000000000285", "color/000000000285.jpg", "yes"),
        ("color 000000000285 2", "color", "color 000000000285", "color/000000000285.jpg", "no"),
        ("artwork 10002 1", "artwork", "artwork 10002", "artwork/images/10002.png", "yes"),
        ("artwork 10002 2", "artwork", "artwork 10002", "artwork/images/10002.png", "no"),
    ]
    assert data.questions[0].prompt == "Is there a cat? Please answer yes or no."
    assert data.image_root == Location.connect(str(tmp_path))


def test_a_text_without_its_image_stays_so_that_its_row_fails(tmp_path: Path) -> None:
    write_release(tmp_path)
    (tmp_path / "color" / "000000000285.jpg").unlink()
    data = mme.read_questions(Location.connect(str(tmp_path)))
    assert [q.image for q in data.questions if q.group == "color"] == ["color/000000000285.jpg"] * 2


@pytest.mark.parametrize("ending", ["\t", "\t \t", " ", "\r"])
def test_blanks_after_an_answer_are_passed_over(tmp_path: Path, ending: str) -> None:
    write_release(tmp_path)
    text = f"{YES.rstrip()}{ending}\n{NO.rstrip()}{ending}\n"
    (tmp_path / "color" / "000000000285.txt").write_bytes(text.encode())
    data = mme.read_questions(Location.connect(str(tmp_path)))
    found = [(q.prompt, q.label) for q in data.questions if q.group == "color"]
    assert found == [
        ("Is there a cat? Please answer yes or no.", "yes"),
        ("Is there a dog? Please answer yes or no.", "no"),
    ]


@pytest.mark.parametrize("name", ["readme.txt", "README.txt", "._000000000285.txt"])
def test_a_text_that_is_of_no_image_by_its_name_is_passed_over(tmp_path: Path, name: str) -> None:
    write_release(tmp_path)
    before = mme.read_questions(Location.connect(str(tmp_path)))
    (tmp_path / "color" / name).write_bytes(b"Images of COCO.\xff")
    assert mme.read_questions(Location.connect(str(tmp_path))) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (YES, "285.txt: holds 1 questions, and MME asks 2 about an image"),
        (YES + "\tYes\n", "285.txt: line 2: is not a question, a tab and an answer"),
        (YES + "Is there a dog? No\n", "285.txt: line 2: is not a question, a tab and an answer"),
        (YES + "Is there a dog?\tPerhaps\n", "285.txt: line 2: the label 'Perhaps' is neither"),
    ],
)
def test_a_faulty_text_is_refused_by_its_line(tmp_path: Path, text: str, message: str) -> None:
    write_release(tmp_path)
    (tmp_path / "color" / "000000000285.txt").write_text(text)
    with pytest.raises(PreflightError, match=message):
        mme.read_questions(Location.connect(str(tmp_path)))


def test_a_folder_without_a_subtask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="holds none of MME's folders"):
        mme.read_questions(Location.connect(str(tmp_path)))
