"""A turn that fits the model's positions without its image, and not with it, is not scored."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.scoring_model import ScoringModel
from c3l_ray.inference.turn_scorer import TurnScorer
from c3l_ray.methods import c3l
from c3l_ray.model_config import Baseline, ScorerModel
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.schema import Turn
from tests.inference.builders import EncodeImage, MakeConfig, scene_turn, stage_turns

ANSWER = "No, there is no red star."
SHORT = "Is there a red star?"


def make_turn(question: str, instruction: str = "", alternatives: Sequence[str] = ()) -> Turn:
    return {
        "kind": "yes_no" if instruction else "given",
        "instruction": instruction,
        "question": question,
        "answer": ANSWER,
        "status": "ok",
        "alternatives": [
            {"answer": answer, "num_samples": 1, "status": "ok", "scores": None}
            for answer in alternatives
        ],
    }


def lengthen(text: str, model: ScoringModel, num_tokens: int) -> str:
    """The text after as many words as make a turn this long without its image's tokens."""
    turn = scene_turn(draw_scene(0), text, ANSWER)
    missing = num_tokens - len(model.tokenize_turn(turn, with_image=True).ids)
    return " ".join(["red"] * missing) + " " + text


@pytest.mark.parametrize(("pack", "baseline"), [(True, "none"), (True, "grey"), (False, "none")])
def test_a_turn_that_is_too_long_with_its_image_has_no_scores(
    config: MakeConfig, encoded: EncodeImage, pack: bool, baseline: Baseline
) -> None:
    scorer_model = ScorerModel(name=str(world.LLAVA), dtype="float32", pack=pack, baseline=baseline)
    scorer = TurnScorer(config(scorer=scorer_model))
    assert isinstance(scorer.scorer, PackedScorer if pack else PlainScorer)
    model = scorer.model
    assert model.max_positions == 512
    inputs = model.process_turn(turn := scene_turn(draw_scene(0), SHORT, "No."), turn.image)
    num_added = inputs["input_ids"].shape[1] - len(model.tokenize_turn(turn, with_image=True).ids)
    assert num_added > 10
    fits, too_long = (
        lengthen(SHORT, model, length) for length in (512 - num_added, 513 - num_added)
    )
    wording = c3l.INSTRUCTIONS["yes_no"][0]
    asked = c3l.format_instruction(wording, "text")
    posed = replace(scene_turn(draw_scene(0), SHORT, ANSWER), instruction=asked)
    missing = 513 - num_added - len(model.tokenize_posed_turn(posed).ids)
    asked_long = " ".join(["red"] * missing) + " " + asked
    turns = [
        make_turn(SHORT, asked),
        make_turn(fits),
        make_turn(too_long),
        make_turn(SHORT, asked_long),
        make_turn(fits, alternatives=["No, there is none, no red star is there to be seen."]),
    ]
    (row,) = scorer(stage_turns([encoded()], [turns])).to_pylist()
    scored = row["turns"]
    assert [turn["status"] for turn in scored] == ["ok", "ok", "too_long", "ok", "ok"]
    assert scored[2]["scores"] is None
    assert [turn["scores"]["posed_logprob"] is None for turn in (scored[0], scored[3])] == [
        False,
        True,
    ]
    assert all(turn["scores"]["gain"] is not None for turn in scored if turn["status"] == "ok")
    (alternative,) = scored[4]["alternatives"]
    assert (alternative["status"], alternative["scores"]) == ("too_long", None)
    (note,) = [note for note in row["notes"] if "posed_logprob" in note]
    assert "as replies to their instruction (too_long)" in note
    assert row["error"] is None and row["faults"] == []
    (row,) = scorer(stage_turns([encoded()], [[make_turn(too_long)]])).to_pylist()
    assert row["error"] == "no_turn: too_long"


@pytest.mark.parametrize("kind", [PackedScorer, PlainScorer])
def test_who_asks_for_all_evidence_is_told_that_there_is_none(
    kind: type[PackedScorer | PlainScorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ScoringModel(ScorerModel(dtype="float32"), str(world.LLAVA))
    turns = [scene_turn(draw_scene(0), SHORT, answer) for answer in ("No.", "No, no red star.")]
    lengths = [model.process_turn(turn, turn.image)["input_ids"].shape[1] for turn in turns]
    assert lengths[0] < lengths[1]
    monkeypatch.setattr(model, "max_positions", lengths[0])
    found = kind(model).measure_fitting(turns)
    assert [answer is None for answer in found] == [False, True]
    with pytest.raises(ValueError, match="has more tokens than the model has positions"):
        kind(model).measure(turns)
