"""What is said of a run's turns: counts of the good ones, means, and what correction did."""

from pathlib import Path

import pytest

from c3l_ray.runs.commit import commit_unit, read_manifests
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.statistics import describe_turns, measure_correction
from tests.examples import RECORD
from tests.runs.tables import stage_turns


def test_good_turns_are_counted_with_how_varied_they_are(tmp_path: Path) -> None:
    folder, example = RunFolder.open(str(tmp_path)), RECORD["turns"][0]
    questions = [("short", "What?", 1.0), ("short", "WHAT?", 2.0), ("detail", "Where?", None)]
    turns = [
        {**example, "kind": kind, "question": question, "scores": {"i2c": i2c}}
        for kind, question, i2c in questions
    ]
    truncated = {**example, "kind": "yes_no", "question": "Is it?", "status": "truncated"}
    commit_unit(folder, "u", "a.tar", stage_turns([*turns, truncated]), "o")
    description = describe_turns(folder)
    counts = (description["turns"], description["questions"], description["kinds"])
    assert counts == (3, 2, 2)
    assert description["i2c"] == pytest.approx(1.5) and description["gain"] is None


def test_a_run_without_turns_is_described_too(tmp_path: Path) -> None:
    assert describe_turns(RunFolder.open(str(tmp_path)))["turns"] == 0


def test_drafts_and_corrected_answers_stand_side_by_side(tmp_path: Path) -> None:
    folder = RunFolder.open(str(tmp_path))
    cost = {"outcome": "complete", "num_requests": 1, "generated_tokens": 9, "kept_tokens": 4}
    drafts = [("Red.", "Blue.", 0.5, 1.5), ("Red.", "Red.", 1.0, 1.0), ("Two.", "One.", None, 9.0)]
    turns = [
        {
            **RECORD["turns"][0],
            "question": f"Question {place}?",
            "draft": draft,
            "answer": answer,
            "draft_scores": {"gain": before},
            "scores": {"gain": after},
            "correction": cost,
        }
        for place, (draft, answer, before, after) in enumerate(drafts)
    ]
    uncorrected = {**RECORD["turns"][0], "correction": None}
    commit_unit(folder, "u", "a.tar", stage_turns([*turns, uncorrected]), "o")
    effect = measure_correction(folder, list(read_manifests(folder)))
    assert effect is not None
    assert (effect["turns"], effect["changed"]) == (3, 2)
    assert effect["scores"]["gain"] == {"drafts": 0.75, "answers": 1.25}  # of those that have both
    assert effect["scores"]["clip"] == {"drafts": None, "answers": None}
    assert effect["examples"] == [
        {"question": "Question 0?", "draft": "Red.", "answer": "Blue."},
        {"question": "Question 2?", "draft": "Two.", "answer": "One."},
    ]


def test_a_run_without_corrections_has_no_effect_of_them(tmp_path: Path) -> None:
    assert measure_correction(RunFolder.open(str(tmp_path)), []) is None
