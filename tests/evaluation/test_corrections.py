from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.evaluation.corrections import (
    RANKED_BY,
    JudgedAnswer,
    JudgedCorrection,
    format_answers_by_kind,
    format_sentences_by_place,
    format_top_answers,
    judge_corrections,
    report_corrections,
)
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.methods.sentences import split_sentences
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import describe_scene
from c3l_ray.scenes.truth import Truth
from c3l_ray.schema import Turn
from tests.evaluation.builders import make_table, make_turn, write_run

SCENE = draw_scene(3)
TRUE_TEXT = describe_scene(SCENE)
FALSE_TEXT = next(
    text
    for text in (describe_scene(draw_scene(seed)) for seed in range(4, 100))
    if not set(split_sentences(text)) & set(split_sentences(TRUE_TEXT))
)


def make_detail_turn(**fields: Any) -> Turn:
    question = "What can be seen in the picture?"
    return make_turn(**{"kind": "detail", "question": question, **fields})


def make_scene_table(*turns: Turn) -> pa.Table:
    return make_table({"meta": SCENE.to_json(), "turns": turns})


def test_rankings_are_by_known_scores() -> None:
    assert set(RANKED_BY) <= set(SCORE_NAMES)


def test_each_sentence_is_judged_before_and_after() -> None:
    true, false = split_sentences(TRUE_TEXT), split_sentences(FALSE_TEXT)
    draft = " ".join([true[0], false[0], "It is lovely."])
    table = make_scene_table(make_detail_turn(draft=draft, answer=TRUE_TEXT))
    (correction,) = judge_corrections([table])
    assert correction.draft.sentences == ("true", "false", "unknown")
    assert correction.answer.sentences == ("true",) * len(true)


def test_an_answer_of_another_kind_is_judged_as_one_sentence() -> None:
    turn = make_turn(question="What does the image show?", draft=TRUE_TEXT, answer=FALSE_TEXT)
    (correction,) = judge_corrections([make_scene_table(turn)])
    assert (correction.draft.sentences, correction.answer.sentences) == (("true",), ("false",))


def test_turns_without_correction_and_turns_about_other_images_are_left_out() -> None:
    corrected = make_detail_turn(draft=TRUE_TEXT, answer=TRUE_TEXT)
    uncorrected = make_detail_turn(draft=None, answer=TRUE_TEXT, correction=None)
    assert len(list(judge_corrections([make_scene_table(corrected, uncorrected)]))) == 1
    photograph = make_table({"meta": "{}", "turns": [corrected]})
    assert not list(judge_corrections([photograph]))


def make_correction(
    draft: tuple[Truth, ...],
    answer: tuple[Truth, ...],
    kind: str = "detail",
    draft_scores: dict[str, float | None] | None = None,
    answer_scores: dict[str, float | None] | None = None,
) -> JudgedCorrection:
    return JudgedCorrection(
        kind=kind,
        draft=JudgedAnswer(sentences=draft, scores=draft_scores or {}),
        answer=JudgedAnswer(sentences=answer, scores=answer_scores or {}),
    )


def test_sentences_are_counted_by_place_and_answers_as_a_whole() -> None:
    corrections = [
        make_correction(("true", "false"), ("true", "true", "true")),
        make_correction(("true", "true"), ("true", "unknown")),
        make_correction(("true",), ("true",)),
        make_correction(("false",), ("true",), kind="dialogue"),
    ]
    lines = [line.split() for line in format_sentences_by_place(corrections).splitlines()]
    assert lines[1] == ["1", "3", "100.0%", "3", "100.0%"]
    assert lines[2] == ["2", "2", "50.0%", "2", "50.0%"]
    assert lines[3] == ["3", "0", "-", "1", "100.0%"]
    assert lines[4] == ["all", "5", "80.0%", "6", "83.3%"]
    lines = [line.split() for line in format_answers_by_kind(corrections).splitlines()]
    assert lines[1] == ["detail", "3", "66.7%", "3", "66.7%", "1", "1"]
    assert lines[2] == ["dialogue", "1", "0.0%", "1", "100.0%", "1", "0"]
    assert lines[3] == ["all", "4", "50.0%", "4", "75.0%", "2", "1"]


def test_drafts_and_answers_are_each_ranked_by_their_own_scores() -> None:
    corrections = [
        make_correction(
            ("true" if place == 3 else "false",),
            ("true" if place == 7 else "false",),
            draft_scores={"gain": float(place == 3), "visual_ifd": float(place)},
            answer_scores={"gain": float(place == 2), "visual_ifd": -float(place == 7)},
        )
        for place in range(10)
    ]
    rows = {
        line.split()[0]: line.split()[1:] for line in format_top_answers(corrections).splitlines()
    }
    assert rows["gain"] == ["1", "100.0%", "1", "0.0%"]
    assert rows["visual_ifd"] == ["1", "0.0%", "1", "100.0%"]  # the lowest is the best
    assert rows["i2c"] == ["0", "-", "0", "-"]


def test_the_report_on_a_run_ends_with_what_correction_cost(tmp_path: Path) -> None:
    write_run(tmp_path, {})
    report = report_corrections(str(tmp_path))
    assert report.startswith("sentence      drafts     true   answers     true\n")
    assert report.endswith("\n\ncorrection generated 8 tokens and kept 5")


def test_a_run_without_corrections_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, {"turns": [make_turn(correction=None)]})
    with pytest.raises(PreflightError, match="contains no corrected answers about scenes"):
        report_corrections(str(tmp_path))
