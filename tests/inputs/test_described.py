"""What is said of a run's turns: counts of the good ones, and means."""

from pathlib import Path
from typing import Any

import pytest

from c3l_ray.runs.folder import Output
from c3l_ray.runs.statistics import corrected, described
from c3l_ray.schema import STAGED_ROWS, conform
from tests.test_schema import RECORD


def test_good_turns_are_counted_with_how_varied_they_are(tmp_path: Path) -> None:
    output, example = Output(str(tmp_path)), RECORD["turns"][0]
    asked = [("short", "What?", 1.0), ("short", "WHAT?", 2.0), ("detail", "Where?", None)]
    turns = [
        {**example, "kind": kind, "question": question, "scores": {"i2c": i2c}}
        for kind, question, i2c in asked
    ]
    bad = {**example, "kind": "yes_no", "question": "Is it?", "status": "truncated"}
    columns = {name: ["x"] for name in ("image_id", "key", "source")}
    table = conform({**columns, "turns": [[*turns, bad]], "unit": ["u"], "unit_rows": [1]}, STAGED_ROWS)
    output.commit("u", "a.tar", table, "o")
    found = described(output)
    assert (found["turns"], found["questions"], found["kinds"]) == (3, 2, 2)
    assert found["i2c"] == pytest.approx(1.5) and found["gain"] is None


def test_a_run_without_turns_is_described_too(tmp_path: Path) -> None:
    assert described(Output(str(tmp_path)))["turns"] == 0


def test_drafts_and_corrected_answers_stand_side_by_side(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    made = {"ended": "complete", "requests": 1, "tokens": 9, "kept_tokens": 4}
    drafts = [("Red.", "Blue.", 0.5, 1.5), ("Red.", "Red.", 1.0, 1.0), ("Two.", "One.", None, 9.0)]
    turns = [
        {
            **RECORD["turns"][0],
            "question": f"Question {place}?",
            "draft": draft,
            "answer": answer,
            "draft_scores": {"gain": before},
            "scores": {"gain": after},
            "correction": made,
        }
        for place, (draft, answer, before, after) in enumerate(drafts)
    ]
    as_drawn = {**RECORD["turns"][0], "correction": None}
    columns = {name: ["x"] for name in ("image_id", "key", "source")}
    table = conform(
        {**columns, "turns": [[*turns, as_drawn]], "unit": ["u"], "unit_rows": [1]}, STAGED_ROWS
    )
    output.commit("u", "a.tar", table, "o")
    found: dict[str, Any] = corrected(output, list(output.manifests())) or {}
    assert (found["turns"], found["changed"]) == (3, 2)
    assert found["scores"]["gain"] == {"drafts": 0.75, "answers": 1.25}  # of those that have both
    assert found["scores"]["clip"] == {"drafts": None, "answers": None}
    assert found["examples"] == [
        {"question": "Question 0?", "draft": "Red.", "answer": "Blue."},
        {"question": "Question 2?", "draft": "Two.", "answer": "One."},
    ]


def test_a_run_without_corrections_says_nothing_of_them(tmp_path: Path) -> None:
    assert corrected(Output(str(tmp_path)), []) is None
