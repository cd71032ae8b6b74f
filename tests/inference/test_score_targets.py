"""Which answers of an image are scored, and where their scores go: alternatives and all."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from c3l_ray.images import decode_image
from c3l_ray.inference.clip_scorer import ClipScorer
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.scoring_model import ScoringModel, TurnToScore
from c3l_ray.inference.turn_scorer import TurnScorer
from c3l_ray.methods import c3l, i2c
from c3l_ray.methods.i2c import AnswerEvidence
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.schema import Alternative, Turn
from tests.inference.builders import EncodeImage, MakeConfig, stage_turns

ANSWER = "No, there is no red star."
OTHER = "Yes, there is a red star."


def make_alternative(answer: str, status: Any = "ok") -> Alternative:
    return {"answer": answer, "num_samples": 1, "status": status}


def make_turn(alternatives: Sequence[Alternative] | None, reply_format: str = "text") -> Turn:
    return {
        "kind": "yes_no",
        "instruction": c3l.format_instruction(c3l.INSTRUCTIONS["yes_no"][0], reply_format),
        "question": "Is there a red star?",
        "answer": ANSWER,
        "status": "ok",
        "alternatives": None if alternatives is None else list(alternatives),
    }


def record_measured(monkeypatch: pytest.MonkeyPatch) -> list[list[TurnToScore]]:
    """The turns of every call of the packed scorer from now on."""
    calls: list[list[TurnToScore]] = []
    measure = PackedScorer.measure_fitting

    def recording(self: PackedScorer, turns: Sequence[TurnToScore]) -> list[AnswerEvidence | None]:
        calls.append(list(turns))
        return measure(self, turns)

    monkeypatch.setattr(PackedScorer, "measure_fitting", recording)
    return calls


@pytest.mark.parametrize("reply_format", ["text", "json"])
def test_alternatives_are_scored_as_the_answer_would_be_in_the_same_pass(
    config: MakeConfig, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch, reply_format: str
) -> None:
    scorer = TurnScorer(config())
    calls = record_measured(monkeypatch)
    turn = make_turn([make_alternative(OTHER), make_alternative("No.")], reply_format)
    (row,) = scorer(stage_turns([encoded()], [[turn]])).to_pylist()
    assert [[to_score.answer for to_score in call] for call in calls] == [[ANSWER, OTHER, "No."]]
    (scored,) = row["turns"]
    assert scored["status"] == "ok" and row["error"] is None
    image = decode_image(encoded(), 10**6)
    for holder in (scored, *scored["alternatives"]):
        scores = holder["scores"]
        assert set(scores) == set(SCORE_NAMES)
        to_score = TurnToScore(
            image=image,
            question=turn["question"] or "",
            answer=holder["answer"],
            instruction=turn["instruction"],
        )
        (evidence,) = PlainScorer(scorer.model).measure([to_score])
        expected = i2c.compute_scores(evidence)
        assert expected["posed_logprob"] is not None
        assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-4)
        text = f"{turn['question']} {holder['answer']}"
        (cosine,) = scorer.clip.cosines([image], [text])
        assert scores["clip"] == pytest.approx(cosine, abs=1e-5)
    assert [alternative["status"] for alternative in scored["alternatives"]] == ["ok", "ok"]


def test_equal_texts_are_computed_once(
    config: MakeConfig, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = TurnScorer(config())
    calls = record_measured(monkeypatch)
    turn = make_turn([make_alternative(OTHER), make_alternative(ANSWER)])
    turn["draft"] = OTHER
    other_turn = make_turn([])
    other_turn["question"] = "Is there a star that is red?"
    (row,) = scorer(stage_turns([encoded()], [[turn, other_turn]])).to_pylist()
    measured = [(to_score.question, to_score.answer) for to_score in calls[0]]
    questions = [turn["question"], turn["question"], other_turn["question"]]
    assert measured == list(zip(questions, [ANSWER, OTHER, ANSWER], strict=True))
    scored, other = row["turns"]
    of_other, of_answer = (alternative["scores"] for alternative in scored["alternatives"])
    assert of_answer == scored["scores"] and of_other == scored["draft_scores"]
    assert of_other != of_answer and other["scores"] != scored["scores"]
    assert other["alternatives"] == []


def test_an_alternative_that_cannot_be_read_says_why_and_costs_itself_alone(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    good, duplicate = make_alternative(OTHER), make_alternative("No.", "truncated")
    special, empty = make_alternative("the end</s>"), make_alternative("")
    turn = make_turn([special, good, empty, duplicate])
    unreadable = make_turn([make_alternative("no</s>"), make_alternative(OTHER)])
    unreadable["answer"] = "no</s>"
    unusable = make_turn([make_alternative(OTHER)])
    unusable["status"] = "duplicate"
    (row,) = TurnScorer(config())(
        stage_turns([encoded()], [[turn, unreadable, unusable]])
    ).to_pylist()
    first, second, third = row["turns"]
    assert [turn["status"] for turn in row["turns"]] == ["ok", "special_tokens", "duplicate"]
    statuses = [alternative["status"] for alternative in first["alternatives"]]
    assert statuses == ["special_tokens", "ok", "empty", "truncated"]
    has_scores = [alternative["scores"] is not None for alternative in first["alternatives"]]
    assert has_scores == [False, True, False, False]
    assert [alternative["status"] for alternative in second["alternatives"]] == [
        "special_tokens",
        "ok",
    ]
    assert second["alternatives"][1]["scores"] is not None
    assert third["alternatives"][0]["scores"] is None


def test_an_alternative_that_the_model_fails_on_is_unscored_and_its_turn_stays(
    config: MakeConfig, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = TurnScorer(config())
    turn = make_turn([make_alternative("Yes, a huge one."), make_alternative(OTHER)])
    (whole,) = scorer(stage_turns([encoded()], [[turn]])).to_pylist()
    measure = PackedScorer.measure_fitting

    def measure_or_fail(
        self: PackedScorer, turns: Sequence[TurnToScore]
    ) -> list[AnswerEvidence | None]:
        if any("huge" in turn.answer for turn in turns):
            raise RuntimeError("no memory")
        return measure(self, turns)

    monkeypatch.setattr(PackedScorer, "measure_fitting", measure_or_fail)
    (row,) = scorer(stage_turns([encoded()], [[turn]])).to_pylist()
    (scored,) = row["turns"]
    failed, good = scored["alternatives"]
    assert (scored["status"], failed["status"], good["status"]) == ("ok", "unscored", "ok")
    assert failed["scores"] is None and row["error"] is None
    assert row["faults"] == ["RuntimeError: no memory"]
    assert good["scores"] == pytest.approx(whole["turns"][0]["alternatives"][1]["scores"], abs=1e-4)
    monkeypatch.setattr(PackedScorer, "measure_fitting", measure)

    def fail(*_: Any) -> Any:
        raise RuntimeError("no CLIP")

    monkeypatch.setattr(ClipScorer, "cosines", fail)
    (row,) = scorer(stage_turns([encoded()], [[turn]])).to_pylist()
    alternatives = row["turns"][0]["alternatives"]
    assert all(alternative["status"] == "ok" for alternative in alternatives)
    assert all(alternative["scores"]["clip"] is None for alternative in alternatives)
    assert row["faults"] == ["clip_RuntimeError: no CLIP"] * 3


def test_a_chat_template_that_raises_leaves_no_alternative_as_if_it_were_scored(
    config: MakeConfig, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = TurnScorer(config())

    def refuse(_: TurnToScore) -> Any:
        raise TypeError("roles must alternate")

    monkeypatch.setattr(scorer.model, "unscorable_status", refuse)
    turn = make_turn([make_alternative(OTHER), make_alternative("No.", "truncated")])
    (row,) = scorer(stage_turns([encoded()], [[turn]])).to_pylist()
    (scored,) = row["turns"]
    assert scored["status"] == "unscored"
    statuses = [alternative["status"] for alternative in scored["alternatives"]]
    assert statuses == ["unscored", "truncated"]


def test_alternatives_of_a_follow_up_are_scored_after_the_turns_before_it(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    scorer = TurnScorer(config())
    first, follow_up = make_turn(None), make_turn([make_alternative(OTHER)])
    for turn, kind in ((first, "given"), (follow_up, "follow_up")):
        turn["kind"], turn["instruction"] = kind, ""
    (row,) = scorer(stage_turns([encoded()], [[first, follow_up]])).to_pylist()
    scores = row["turns"][1]["alternatives"][0]["scores"]
    alone = TurnToScore(
        image=decode_image(encoded(), 10**6), question=first["question"] or "", answer=OTHER
    )
    history = ((first["question"] or "", ANSWER),)
    (evidence,) = PlainScorer(scorer.model).measure([dataclasses.replace(alone, history=history)])
    expected = i2c.compute_scores(evidence)
    assert expected["posed_logprob"] is None and expected["grounding"] is not None
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("reason", ["special_tokens", "altered_by_template", "too_long"])
def test_a_reply_that_the_model_cannot_read_has_no_posed_score_and_a_note(
    config: MakeConfig, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    scorer = TurnScorer(config())
    turn, usual = make_turn([make_alternative(OTHER)], "json"), make_turn(None, "text")
    usual["question"] = "Is there a star?"
    if reason == "special_tokens":
        turn["instruction"] = "Ask about <image>."
    elif reason == "altered_by_template":
        apply_template = scorer.model.processor.apply_chat_template

        def drop_objects(messages: Any, **options: Any) -> str:
            text: str = apply_template(messages, **options)
            return text.replace('{"question"', "{")

        monkeypatch.setattr(scorer.model.processor, "apply_chat_template", drop_objects)
    else:
        monkeypatch.setattr(scorer.model, "max_positions", 150)
        turn["instruction"] = f"{'Look at it. ' * 50}{turn['instruction']}"
    (row,) = scorer(stage_turns([encoded()], [[turn, usual]])).to_pylist()
    scored, other = row["turns"]
    for holder in (scored, scored["alternatives"][0]):
        assert holder["status"] == "ok"
        assert holder["scores"]["posed_logprob"] is None
        assert holder["scores"]["image_logprob"] is not None
    assert other["scores"]["posed_logprob"] is not None
    (note,) = [note for note in row["notes"] if "posed_logprob" in note]
    assert f"({reason})" in note


def test_the_checks_at_the_start_cover_the_posed_side(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = ScoringModel.compute_logprobs
    calls: list[int] = []

    def compute_wrongly(self: ScoringModel, *args: Any) -> Any:
        calls.append(len(calls))
        return [values - 0.01 * len(calls) for values in compute(self, *args)]

    monkeypatch.setattr(ScoringModel, "compute_logprobs", compute_wrongly)
    with pytest.raises(Exception, match="its tokens see those that come after them"):
        TurnScorer(config())
