"""What the scorer fails on costs its own turns; what fails on everything ends the process."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from c3l_ray.errors import C3LError, ScorerFailure
from c3l_ray.inference import faults
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.scorer_checks import TRIAL_TURNS
from c3l_ray.inference.scoring_model import ScoringModel, TurnToScore
from c3l_ray.inference.turn_scorer import TurnScorer, choose_scorer
from c3l_ray.methods.i2c import AnswerEvidence
from c3l_ray.schema import Turn
from tests.inference.builders import EncodeImage, MakeConfig, stage_turns

Evidence = list[AnswerEvidence | None]


@pytest.fixture
def scorer(config: MakeConfig) -> TurnScorer:
    return TurnScorer(config())


def make_turn(question: str = "Is there a red star?") -> Turn:
    return {
        "kind": "yes_no",
        "instruction": "Ask.",
        "question": question,
        "answer": "No, there is no red star.",
        "status": "ok",
    }


def fail_on(
    monkeypatch: pytest.MonkeyPatch, words: Sequence[str], error: Exception, *, trial: bool = False
) -> None:
    """Makes the packed scorer fail on batches with a question that holds one of these words."""
    measure = PackedScorer.measure_fitting

    def measure_or_fail(self: PackedScorer, turns: Sequence[TurnToScore]) -> Evidence:
        if any(word in turn.question for word in words for turn in turns):
            raise error
        if trial and list(turns) == list(TRIAL_TURNS):
            raise error
        return measure(self, turns)

    monkeypatch.setattr(PackedScorer, "measure_fitting", measure_or_fail)


def test_a_turn_that_the_model_fails_on_costs_itself_alone(
    scorer: TurnScorer, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [[make_turn(), make_turn("Is it huge?")], [make_turn("Is it huge?")], [make_turn()]]
    whole = scorer(stage_turns([encoded()] * 3, turns)).to_pylist()
    fail_on(monkeypatch, ["huge"], torch.OutOfMemoryError("CUDA out of memory. Tried"))
    rows = scorer(stage_turns([encoded()] * 3, turns)).to_pylist()
    assert [[turn["status"] for turn in row["turns"]] for row in rows] == [
        ["ok", "unscored"],
        ["unscored"],
        ["ok"],
    ]
    assert rows[0]["turns"][1]["scores"] is None
    for row in (0, 2):
        assert rows[row]["turns"][0]["scores"] == pytest.approx(
            whole[row]["turns"][0]["scores"], abs=1e-5
        )
    fault = "OutOfMemoryError: CUDA out of memory. Tried"
    assert [row["error"] for row in rows] == [None, f"unscored: {fault}", None]
    assert [row["faults"] for row in rows] == [[fault], [fault], []]
    assert [row["scoring"] for row in rows] == ["packed"] * 3


def test_a_chat_template_that_raises_costs_its_image(
    scorer: TurnScorer, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = scorer.model.unscorable_status

    def raise_or_status(turn: TurnToScore) -> Any:
        if "huge" in turn.question:
            raise TypeError("not in this template")
        return status(turn)

    monkeypatch.setattr(scorer.model, "unscorable_status", raise_or_status)
    turns = [[make_turn(), make_turn("Is it huge?")], [make_turn()]]
    first, second = scorer(stage_turns([encoded()] * 2, turns)).to_pylist()
    assert [turn["status"] for turn in first["turns"]] == ["unscored", "unscored"]
    assert first["error"] == "unscored: TypeError: not in this template"
    assert second["turns"][0]["status"] == "ok"


def test_what_clip_fails_on_keeps_its_other_scores(
    scorer: TurnScorer, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    cosines = scorer.clip.cosines

    def cosines_or_fail(images: Sequence[Any], texts: Sequence[str]) -> list[float]:
        if any("huge" in text for text in texts):
            raise ValueError("no such size")
        return cosines(images, texts)

    monkeypatch.setattr(scorer.clip, "cosines", cosines_or_fail)
    turns = [[make_turn(), make_turn("Is it huge?")], [make_turn()]]
    first, second = scorer(stage_turns([encoded()] * 2, turns)).to_pylist()
    assert [turn["status"] for turn in first["turns"]] == ["ok", "ok"]
    scores = [turn["scores"] for row in (first, second) for turn in row["turns"]]
    assert [values["clip"] is None for values in scores] == [False, True, False]
    assert all(values["gain"] is not None for values in scores)
    assert first["faults"] == ["clip_ValueError: no such size"]
    assert first["error"] is None


def test_a_model_that_fails_on_the_trial_turns_too_ends_its_process(
    scorer: TurnScorer, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = stage_turns([encoded()], [[make_turn()]])
    scorer(table)
    fail_on(monkeypatch, ["red"], RuntimeError("CUDA error: device-side assert"), trial=True)
    with pytest.raises(ScorerFailure, match=r"fails on every turn.*RuntimeError: CUDA error"):
        scorer(table)


def test_a_model_that_never_scores_a_turn_ends_the_job(
    scorer: TurnScorer, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "MAX_FAULTS_AT_FIRST", 3)
    fail_on(monkeypatch, ["red"], KeyError("pixel_values"))
    table = stage_turns([encoded()], [[make_turn(), make_turn()]])
    scorer(table)
    with pytest.raises(C3LError, match=r"failed on each of the first 4 turns.*KeyError"):
        scorer(table)


def test_clip_that_never_measures_a_turn_ends_the_job(
    scorer: TurnScorer, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "MAX_FAULTS_AT_FIRST", 3)
    monkeypatch.delattr(scorer.clip, "tokenize")
    table = stage_turns([encoded()], [[make_turn(), make_turn()]])
    scorer(table)
    with pytest.raises(C3LError, match=r"CLIP .*failed on each of the first 4 turns.*Attribute"):
        scorer(table)


def test_a_lack_of_memory_does_not_turn_packing_off(
    scorer: TurnScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: ScoringModel = scorer.model
    fail_on(monkeypatch, [], torch.OutOfMemoryError("CUDA out of memory."), trial=True)
    with pytest.raises(torch.OutOfMemoryError):
        choose_scorer(model, pack=True)


def test_a_lack_of_memory_does_not_turn_batches_off(
    scorer: TurnScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = PlainScorer.measure_fitting

    def measure_alone(self: PlainScorer, turns: Sequence[TurnToScore]) -> Evidence:
        if self.max_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return measure(self, turns)

    monkeypatch.setattr(PlainScorer, "measure_fitting", measure_alone)
    with pytest.raises(torch.OutOfMemoryError):
        choose_scorer(scorer.model, pack=False)


def test_a_scorer_waits_at_its_start_for_memory(
    config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, missing = PackedScorer.measure_fitting, [True, False]

    def measure_or_fail(self: PackedScorer, turns: Sequence[TurnToScore]) -> Evidence:
        if missing.pop(0):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return measure(self, turns)

    monkeypatch.setattr(PackedScorer, "measure_fitting", measure_or_fail)
    monkeypatch.setattr("c3l_ray.inference.faults.MEMORY_PAUSE_S", 0.0)
    scorer = TurnScorer(config())
    assert isinstance(scorer.scorer, PackedScorer) and scorer.notes == [] and missing == []
