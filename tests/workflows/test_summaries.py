import dataclasses
import shlex
from typing import Any

import pytest
import tyro

from c3l_ray.chat import OTHER_PROMPT
from c3l_ray.methods.scores import BEST_SCORE, SCORE_NAMES
from c3l_ray.select_config import SelectConfig
from c3l_ray.workflows.c3l_report import C3LReport
from c3l_ray.workflows.summaries import (
    summarize_c3l,
    summarize_records,
    summarize_selection,
    summarize_stage,
)
from tests.workflows.reports import make_records_report, make_selection_report


def test_a_note_is_printed_once_with_the_number_of_its_units() -> None:
    report = make_records_report(notes={"a process was started again": 3})
    summary = summarize_records(report, "run")
    assert "  note     a process was started again (3 units)\n" in summary
    assert summary.count("a process was started again") == 1
    assert "note" not in summarize_records(make_records_report(), "run")


@pytest.mark.parametrize(
    ("scores", "concerned"),
    [
        ("its scores are", "3 units, all 9 scored turns"),
        ("posed_logprob and grounding are", "3 units, up to 9 scored turns"),
    ],
)
def test_scores_of_another_prompt_are_counted(scores: str, concerned: str) -> None:
    note = f"m continues after 'a', but is scored after 'b'; {scores} {OTHER_PROMPT}"
    report = make_records_report(notes={note: 3}, turn_status={"ok": 9, "unparsable": 2})
    assert f"  note     {note} ({concerned})\n" in summarize_records(report, "run")


def test_failures_are_listed_with_an_example_of_each() -> None:
    report = make_records_report(
        images=3,
        status={"ok": 1, "failed": 2},
        reasons={"empty": 1, "no_image": 1},
        failure_examples={"empty": "a.tar 1: empty: no bytes", "no_image": "a.tar 2: no_image"},
    )
    summary = summarize_stage(report, "s3://bucket/run")
    assert "  images   3: failed 2, ok 1\n" in summary  # the most first
    assert "  failed   empty 1, no_image 1\n" in summary
    assert "           for example a.tar 1: empty: no bytes\n           cure: restore" in summary
    assert "           all: python -m jobs.failed s3://bucket/run\n" in summary
    assert "  records  s3://bucket/run/records\n" in summary
    assert "  next " not in summary  # no turn is good


def test_turns_without_scores_are_scored_next() -> None:
    unscored = {"score": False, "model": {"name": "llava"}}
    report = make_records_report(turn_status={"ok": 9}, config=unscored)
    expected = "  next     python -m jobs.score --input run --output run-scored --scorer.name llava"
    assert expected in summarize_records(report, "run").splitlines()


def test_the_next_command_can_be_pasted() -> None:
    summary = summarize_records(make_records_report(turn_status={"ok": 9}), "my runs/o'ne/")
    (line,) = (line for line in summary.splitlines() if line.startswith("  next "))
    words = shlex.split(line.removeprefix("  next "))
    assert words[:3] == ["python", "-m", "jobs.select"]
    config = tyro.cli(SelectConfig, args=words[3:])
    assert (config.input, config.output) == ("my runs/o'ne/", "my runs/o'ne-best")
    assert (config.by, config.within) == (BEST_SCORE, "kind")


def test_a_trial_says_that_it_is_one_and_how_to_go_on() -> None:
    trial = make_records_report(state="stopped", config={"limit": 10})
    summary = summarize_records(trial, "run")
    assert summary.startswith("did the first 10 images in 12 s\n")
    assert summary.endswith("  go on    by the same command without --limit")
    assert "--limit" not in summarize_records(make_records_report(state="finished"), "run")


def test_turns_that_cannot_be_used_have_their_cure() -> None:
    report = make_records_report(turn_status={"ok": 9, "truncated": 2, "empty": 1})
    lines = summarize_records(report, "run").splitlines()
    assert "           cure of truncated: raise --sampling.max-tokens" in lines
    assert sum("cure of" in line for line in lines) == 1


def test_the_scores_and_the_best_and_worst_turns_are_shown() -> None:
    turn = {
        "kind": "short",
        "image": "a.tar 1",
        "question": "What is\n it?",
        "answer": "A \x1b[31mcircle. " + "x " * 500,
        "scores": {BEST_SCORE: 0.25},
    }
    medians = {"short": {"turns": 9, **dict.fromkeys(SCORE_NAMES, 0.5), "i2c": None}}
    summary = {"by": BEST_SCORE, "turns": 9, "medians": medians, "best": [turn], "worst": [turn]}
    report = make_records_report(turn_status={"ok": 10}, score_summary=summary)
    text = summarize_records(report, "run")
    lines = text.splitlines()
    assert ["short", "9", "0.500", "0.500", "-", "0.500"] in [line.split() for line in lines]
    assert any(line.startswith(f"  best turns by {BEST_SCORE}") for line in lines)
    assert f"    a.tar 1 (short, {BEST_SCORE} 0.250)" in lines
    assert lines.count("      Q What is it?") == 2
    assert "\x1b" not in text and max(map(len, lines)) < 400
    assert "  medians, of 9 sampled turns\n" in text  # one of the ten was not looked at
    whole = dataclasses.replace(report, turn_status={"ok": 9})
    assert "sampled" not in summarize_records(whole, "run")


def test_a_score_that_follows_length_is_noted() -> None:
    report = make_records_report(length_correlation={"i2c": 0.91, "gain": -0.5, "clip": 0.2})
    line = "  note     rank correlation with answer length: i2c +0.91, gain -0.50; see --within\n"
    assert line in summarize_records(report, "run")


def test_more_answers_are_counted_and_so_are_questions_where_they_differ() -> None:
    report = make_records_report(
        sampled_questions=5,
        sampled_answers=20,
        alternative_status={"truncated": 1, "ok": 7},
        differing_questions=3,
        replaced_answers=2,
    )
    assert (
        "  answers  20 sampled to 5 questions; distinct: ok 7, truncated 1\n"
        "           3 questions have answers that differ\n"
        "           2 turns have a better one in its place\n"
    ) in summarize_records(report, "run")
    assert "answers" not in summarize_records(make_records_report(), "run")


def test_a_correction_is_shown_by_an_answer_that_it_changed() -> None:
    effect = {
        "turns": 4,
        "changed": 1,
        "scores": {
            "gain": {"drafts": 0.5, "answers": 0.75},
            "visual_ifd": {"drafts": None, "answers": None},
        },
        "examples": [{"question": "What is it?", "draft": "Red.", "answer": "Blue."}],
    }
    report = make_records_report(
        correction_outcomes={"complete": 4},
        correction_tokens={"generated": 9, "kept": 5},
        correction_effect=effect,
    )
    summary = summarize_records(report, "run")
    assert "  answers  corrected: complete 4; 5 of 9 tokens kept\n" in summary
    assert "1 of 4 changed; mean gain 0.500 before, 0.750 after\n" in summary
    assert "           before    Red.\n           after     Blue.\n" in summary


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"by": "i2c"}, "by i2c, from 0.25 up\n"),
        ({"by": "visual_ifd"}, "by visual_ifd, from 0.25 down\n"),
        ({"by": "visual_ifd", "within": "kind"}, "by visual_ifd, from 0.25 up\n"),  # of percentiles
        ({"by": "random", "threshold": None}, "by random\n"),
    ],
)
def test_a_selection_says_from_which_score_on_it_keeps(fields: dict[str, Any], text: str) -> None:
    summary = summarize_selection(make_selection_report(**fields))
    assert text in summary
    assert summary.startswith("selected 1 of 10 scored turns (1 images) ")


def test_a_selection_says_which_images_left_otherwise_than_they_came() -> None:
    assert "images  " not in summarize_selection(make_selection_report())
    report = make_selection_report(rewritten_images=3, unusable_images=2)
    line = "\n  images   3 written as decoded, 2 left out, since they cannot be decoded here\n"
    assert line in summarize_selection(report)


def test_a_selection_of_pairs_counts_them_and_says_what_makes_none() -> None:
    assert "pairs" not in summarize_selection(make_selection_report())
    report = make_selection_report(
        export="preference", pairs={"alternatives": 3}, unpaired_turns={"one_answer": 2}
    )
    line = "\n  pairs    alternatives 3; turns without a pair: one_answer 2\n"
    assert line in summarize_selection(report)


@pytest.mark.parametrize("llava", ["none", "json", "images"])
def test_a_selection_names_the_files_that_it_wrote(llava: str) -> None:
    summary = summarize_selection(make_selection_report(llava=llava))
    assert ("llava.json" in summary) == (llava != "none")
    assert "\n  card     dataset/README.md\n" in summary


def test_the_rounds_of_c3l_stand_in_a_table() -> None:
    turns = {"turns": 60, "questions": 30, "kinds": 5, **dict.fromkeys(SCORE_NAMES, 0.5)}
    stages: dict[str, dict[str, Any]] = {
        "round-0": {"turns": turns},
        "train-0": {},
        "round-1": {"turns": {**turns, "gain": None}},
        "dataset": {"turns": 5, "scored_turns": 60, "by": "i2c", "images": 4},
    }
    report = C3LReport(origin="o", identity={}, config={}, stages=stages)
    lines = summarize_c3l(report, "out").splitlines()
    assert [line.split() for line in lines if line.startswith("round-")] == [
        ["round-0", "60", "30", "5", "0.500", "0.500"],
        ["round-1", "60", "30", "5", "0.500", "-"],
    ]
    assert "kept 5 of 60 scored turns of the last round by i2c (4 images)" in lines
