from pathlib import Path
from typing import Any

import pytest

from c3l_ray.benchmarks.answers import (
    BenchmarkAnswer,
    collect_answers,
    count_failures,
    read_answers,
    write_answers,
)
from c3l_ray.benchmarks.questions import BenchmarkData, BenchmarkQuestion
from c3l_ray.benchmarks.verdicts import read_yes_or_no
from c3l_ray.errors import PreflightError
from c3l_ray.runs.commit import commit_unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import STAGED_ROWS, conform
from tests.benchmarks.builders import make_question

QUESTIONS = [
    make_question("1", image="a.jpg", prompt="Is there a dog?"),
    make_question("2", image="a.jpg", prompt="Is there a cat?", label="no"),
    make_question("3", image="a.jpg", prompt="Is there a dog?", group="popular"),
    make_question("4", image="gone.jpg"),
    make_question("5", image="later.jpg"),
]


def read_verdict(answer: str | None, _: BenchmarkQuestion) -> str | None:
    return read_yes_or_no(answer)


def make_turn(answer: str | None, status: str = "ok") -> dict[str, Any]:
    sampled = {"answer": answer, "num_samples": 1, "status": status}
    return {
        "kind": "given",
        "instruction": "",
        "status": "ok",
        "alternatives": None if answer is None else [sampled],
    }


def collect(path: Path, *turns: dict[str, Any]) -> list[BenchmarkAnswer]:
    """The answers where a.jpg has these turns, gone.jpg failed and later.jpg is not done."""
    folder = RunFolder.open(str(path))
    columns = {
        **{name: ["a.jpg", "gone.jpg"] for name in ("image_id", "key", "source")},
        "turns": [[*turns], []],
        "error": [None, "unreadable: gone.jpg"],
        "unit": ["unit"] * 2,
        "unit_rows": [2] * 2,
    }
    commit_unit(folder, "unit", "00000.jsonl", conform(columns, STAGED_ROWS), "origin")
    data = BenchmarkData(questions=QUESTIONS, image_root=None)
    return collect_answers(folder, data, "In a word.", read_verdict)


def test_every_question_has_an_answer_or_why_it_has_none(tmp_path: Path) -> None:
    answers = collect(tmp_path, make_turn("Yes."), make_turn("A cat lies there."))
    found = [(a.question.key, a.answer, a.status, a.verdict, a.is_right) for a in answers]
    assert found == [
        ("1", "Yes.", "ok", "yes", True),
        ("2", "A cat lies there.", "ok", None, False),
        ("3", "Yes.", "ok", "yes", True),  # asked once for both
        ("4", None, "failed", None, False),
        ("5", None, "not_asked", None, False),
    ]
    assert [answer.is_measured for answer in answers] == [True, True, True, False, False]
    assert answers[0].prompt == "Is there a dog?\nIn a word."
    assert count_failures(answers) == ({"unreadable": 1}, {"unreadable": "4: unreadable: gone.jpg"})


@pytest.mark.parametrize(
    ("text", "status", "verdict", "is_measured"),
    [
        ("Yes, there is a dog and", "truncated", "yes", True),
        ("", "empty", None, True),
        ("no, let me think", "thought", None, True),
        ("no<pad>", "unparsable", None, True),
        ("prompt too long, no room", "refused", None, False),
        (None, "special_tokens", None, False),
    ],
)
def test_what_is_no_whole_answer_is_never_a_silent_no(
    tmp_path: Path, text: str | None, status: str, verdict: str | None, is_measured: bool
) -> None:
    answer = collect(tmp_path, make_turn(text, status), make_turn("No."))[0]
    assert (answer.status, answer.verdict) == (status, verdict)
    assert answer.is_measured == is_measured == (answer.error is None)


def test_answers_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    answers = collect(tmp_path, make_turn("Yes."), make_turn("No.", "truncated"))
    folder = RunFolder.open(str(tmp_path))
    write_answers(folder, "origin", answers)
    assert read_answers(folder) == answers


def test_what_answers_say_is_read_anew_where_asked(tmp_path: Path) -> None:
    """So that a comparison reads both models' answers by the rules of this version."""
    answers = collect(tmp_path, make_turn("Yes."), make_turn("no, let me think", "thought"))
    earlier = [BenchmarkAnswer(**{**vars(answer), "verdict": None}) for answer in answers]
    folder = RunFolder.open(str(tmp_path))
    write_answers(folder, "origin", earlier)
    assert read_answers(folder) == earlier
    assert read_answers(folder, read_verdict) == answers


def test_other_files_are_refused(tmp_path: Path) -> None:
    folder = RunFolder.open(str(tmp_path), "--against")
    with pytest.raises(PreflightError, match=r"--against .*answers\.parquet: cannot be read"):
        read_answers(folder)
    (tmp_path / "answers.parquet").write_bytes(b"no parquet")
    with pytest.raises(PreflightError, match=r"--against .*answers\.parquet: cannot be read"):
        read_answers(folder)
