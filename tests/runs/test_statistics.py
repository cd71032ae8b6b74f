"""What is said of a run's turns: counts of the good ones, means, and what correction did."""

import json
import math
from pathlib import Path

import pytest

from c3l_ray.methods.scores import BEST_SCORE
from c3l_ray.runs.commit import commit_unit, read_manifests
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.statistics import (
    describe_turns,
    measure_correction,
    sample_scored_turns,
    summarize_scores,
)
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


def test_scores_are_summed_up_by_kind_and_at_their_ends(tmp_path: Path) -> None:
    folder, example = RunFolder.open(str(tmp_path)), RECORD["turns"][0]
    values = [-0.5, -0.1, -0.9, -0.3, -0.7, -0.2, math.nan, None]
    turns = [
        {
            **example,
            "kind": "short" if place % 2 else "detail",
            "question": f"Question {place}?",
            "scores": {"grounding": value, "gain": math.inf, "clip": 0.5},
        }
        for place, value in enumerate(values)
    ]
    unscored = {**example, "scores": None}
    for number in range(2):
        staged = stage_turns([*turns[number::2], unscored], f"u-{number}")
        commit_unit(folder, f"u-{number}", "a.tar", staged, "o")
    summary = summarize_scores(sample_scored_turns(folder, list(read_manifests(folder))))
    assert (summary["by"], summary["turns"]) == (BEST_SCORE, 8) == ("grounding", 8)
    of_short, of_detail = summary["medians"]["short"], summary["medians"]["detail"]
    assert (of_short["turns"], of_detail["turns"]) == (4, 4)
    assert of_short["grounding"] == pytest.approx(-0.2) and of_short["clip"] == 0.5
    assert of_detail["grounding"] == pytest.approx(-0.7)
    assert (of_short["gain"], of_short["i2c"]) == (None, None)  # no number among them
    best, worst = summary["best"], summary["worst"]
    assert [turn["question"] for turn in best] == ["Question 1?", "Question 5?", "Question 3?"]
    assert [turn["question"] for turn in worst] == ["Question 0?", "Question 4?", "Question 2?"]
    assert best[0]["image"] == "x x" and best[0]["answer"] == example["answer"]
    assert "NaN" not in json.dumps(summary) and "Infinity" not in json.dumps(summary)


def test_a_run_without_scored_turns_has_an_empty_summary_of_scores(tmp_path: Path) -> None:
    folder = RunFolder.open(str(tmp_path))
    commit_unit(folder, "u", "a.tar", stage_turns([{**RECORD["turns"][0], "scores": None}]), "o")
    scored = sample_scored_turns(folder, list(read_manifests(folder)))
    assert scored is None and summarize_scores(scored)["turns"] == 0
