"""The scoring actor: which turns it scores, against what, what it leaves alone, what it notes."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from c3l_ray.images import decode_image
from c3l_ray.inference.other_pictures import NO_OTHER_PICTURE
from c3l_ray.inference.pack_attention import PackAttention
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.packing import PackingError
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.scoring_model import ScoringModel, TurnToScore
from c3l_ray.inference.turn_scorer import TurnScorer, choose_scorer
from c3l_ray.methods import i2c
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.model_config import ScorerModel
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.schema import STAGED_ROWS, Alternative, Turn, TurnStatus, replace_columns
from tests import thinking
from tests.inference.builders import EncodeImage, MakeConfig, stage_turns
from tests.train.records import encode_png


@pytest.fixture(scope="module")
def model() -> ScoringModel:
    return ScoringModel(ScorerModel(dtype="float32"), str(world.LLAVA))


def make_turn(
    status: TurnStatus = "ok",
    question: str | None = "Is there a red star?",
    answer: str | None = "No, there is no red star.",
    kind: str = "yes_no",
) -> Turn:
    return {
        "kind": kind,
        "instruction": "" if kind in ("given", "follow_up") else "Ask.",
        "question": question,
        "answer": answer,
        "status": status,
    }


def test_good_turns_are_scored_and_the_rest_is_left_alone(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    unparsable = make_turn("unparsable", None, None)
    table = stage_turns(
        images=[encoded(), b"", b"broken since", encoded()],
        turns=[[make_turn(), unparsable, make_turn("duplicate")], [], [make_turn()], [make_turn()]],
        errors=[None, "empty: the image has no bytes", None, None],
    )
    scored = TurnScorer(config())(table)
    assert scored.schema.equals(STAGED_ROWS)
    first, failed, broken, last = scored.to_pylist()
    assert [turn["scores"] is None for turn in first["turns"]] == [False, True, True]
    assert set(first["turns"][0]["scores"]) == set(SCORE_NAMES)
    assert all(value is not None for value in first["turns"][0]["scores"].values())
    assert last["turns"][0]["scores"] == pytest.approx(first["turns"][0]["scores"], abs=1e-5)
    assert failed["error"].startswith("empty") and failed["turns"] == []
    assert broken["error"].startswith("undecodable")
    assert first["score_s"] > 0


def test_the_best_answer_is_kept_by_its_score_where_that_is_asked_for(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    likely, unlikely = "No, there is no red star.", "star star red there."
    other: Alternative = {
        "answer": likely,
        "num_samples": 1,
        "status": "ok",
        "scores": {**dict.fromkeys(SCORE_NAMES), "image_logprob": -0.01},  # type: ignore[typeddict-item]
    }
    table = stage_turns(
        images=[encoded()], turns=[[{**make_turn(answer=unlikely), "alternatives": [other]}]]
    )
    scorer = TurnScorer(config(answers=1))
    ((own,),) = scorer(table)["turns"].to_pylist()
    assert (own["answer"], own["draft"]) == (unlikely, None)
    scorer.config = config(answers=1, keep_best=True, best_by="image_logprob")
    ((best,),) = scorer(table)["turns"].to_pylist()
    assert (best["answer"], best["draft"]) == (likely, unlikely)
    assert best["draft_scores"] == pytest.approx(own["scores"])
    assert best["scores"]["image_logprob"] > own["scores"]["image_logprob"]


def test_a_follow_up_is_scored_after_the_usable_turns_before_it(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    first = make_turn(question="Is there a blue star?", kind="given")
    leading = make_turn("missing_question", None, None, kind="given")
    follow_up, alone = make_turn(kind="follow_up"), make_turn(kind="given")
    unreadable = make_turn(answer="the end</s>", kind="given")
    unreadable_follow_up = make_turn(answer="the end</s>", kind="follow_up")
    table = stage_turns(
        images=[encoded()] * 4,
        turns=[
            [leading, first, follow_up],
            [first, alone, unreadable],
            [alone, make_turn(answer="No.", kind="follow_up")],
            [unreadable, unreadable_follow_up],
        ],
    )
    scorer = TurnScorer(config())
    after, apart, after_other, unusable = scorer(table).to_pylist()

    assert alone["question"] is not None and alone["answer"] is not None
    turn_alone = TurnToScore(
        image=decode_image(encoded(), 10**6), question=alone["question"], answer=alone["answer"]
    )
    history = ((str(first["question"]), str(first["answer"])),)
    for turn, to_score in (
        (after["turns"][2], dataclasses.replace(turn_alone, history=history)),
        (apart["turns"][1], turn_alone),
    ):
        (evidence,) = PlainScorer(scorer.model).measure([to_score])
        expected = i2c.compute_scores(evidence)
        scores = {name: turn["scores"][name] for name in expected}
        assert scores == pytest.approx(expected, abs=1e-4)
    text_logprobs = [row["turns"][-1]["scores"]["text_logprob"] for row in (after, after_other)]
    assert text_logprobs[0] != pytest.approx(text_logprobs[1], abs=1e-3)
    assert [turn["status"] for turn in apart["turns"]] == ["ok", "ok", "special_tokens"]
    assert apart["error"] is None
    assert [turn["status"] for turn in unusable["turns"]] == ["special_tokens"] * 2


def test_a_mismatched_image_is_never_the_same_picture(config: MakeConfig) -> None:
    scorer = TurnScorer(config(scorer=ScorerModel(baseline="mismatched")))
    one, other = (encode_png(draw_scene(seed)) for seed in (1, 2))
    table = stage_turns([one, one, other], [[make_turn()], [make_turn()], [make_turn()]])
    rows = scorer(table).to_pylist()
    gains = [row["turns"][0]["scores"]["gain"] for row in rows]
    assert gains[0] == pytest.approx(gains[1], abs=1e-5) and abs(gains[0]) > 1e-3
    assert all(NO_OTHER_PICTURE not in row["notes"] for row in rows)

    rows = scorer(stage_turns([one, one], [[make_turn()], [make_turn()]])).to_pylist()
    assert [row["turns"][0]["scores"] for row in rows] == [None, None]
    assert all(NO_OTHER_PICTURE in row["notes"] for row in rows)


@pytest.mark.parametrize("template", [thinking.WITH_SYSTEM, thinking.SHIPPED])
def test_a_turn_made_elsewhere_is_scored_under_its_system_message(
    config: MakeConfig, encoded: EncodeImage, tmp_path: Path, template: str
) -> None:
    system = "There is a small red circle."
    first = make_turn(question="Is there a blue star?", kind="given")
    follow_up, other, ours = make_turn(kind="follow_up"), make_turn(kind="vqa"), make_turn()
    spoilt = make_turn(kind="given")
    for turn in (first, follow_up, other, ours):
        turn["instruction"] = system
    spoilt["instruction"] = "the end</s>"
    scorer_config = ScorerModel(name=thinking.write_model(tmp_path / "m", template))
    scorer = TurnScorer(config(scorer=scorer_config))
    (row,) = scorer(stage_turns([encoded()], [[first, follow_up, other, ours, spoilt]])).to_pylist()

    image = decode_image(encoded(), 10**6)
    history = ((str(first["question"]), str(first["answer"])),)
    for turn, system_message, turns_before, asked_by in (
        (row["turns"][0], system, (), ""),
        (row["turns"][1], system, history, ""),
        (row["turns"][2], system, (), ""),
        (row["turns"][3], "", (), system),
    ):
        to_score = TurnToScore(
            image=image,
            question=turn["question"],
            answer=turn["answer"],
            system=system_message,
            history=turns_before,
            instruction=asked_by,
        )
        (evidence,) = PlainScorer(scorer.model).measure([to_score])
        expected = i2c.compute_scores(evidence)
        assert {name: turn["scores"][name] for name in expected} == pytest.approx(
            expected, abs=1e-4
        )
    scores = [turn["scores"]["text_logprob"] for turn in row["turns"][2:4]]
    assert scores[0] != pytest.approx(scores[1], abs=1e-3)
    assert row["turns"][4]["status"] == "special_tokens"
    notes = [note for note in row["notes"] if "system message" in note]
    assert len(notes) == (template == thinking.SHIPPED)
    assert scorer.notes == []


def test_a_row_without_a_usable_turn_says_why(config: MakeConfig, encoded: EncodeImage) -> None:
    special, empty = make_turn(answer="the end</s>"), make_turn(answer="")
    duplicate = make_turn("duplicate")
    turns = [[special], [special, empty, duplicate], [special, make_turn()]]
    rows = TurnScorer(config())(stage_turns([encoded()] * 3, turns)).to_pylist()
    assert [row["error"] for row in rows] == [
        "no_turn: special_tokens",
        "no_turn: duplicate, empty, special_tokens",
        None,
    ]


def test_notes_are_added_to_those_of_the_generator(
    config: MakeConfig, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = stage_turns([encoded(), b""], [[make_turn()], []], [None, "empty: no bytes"])
    monkeypatch.setattr("c3l_ray.inference.model_check.TESTED_FAMILIES", frozenset())
    scorer = TurnScorer(config())
    (untested,) = scorer.notes
    assert untested.startswith(f"{world.LLAVA} is of family llava, which is untested")
    assert [row["notes"] for row in scorer(table).to_pylist()] == [[untested]] * 2
    generated = replace_columns(table, notes=[["a note of the engine", untested]] * 2)
    rows = scorer(generated).to_pylist()
    assert [row["notes"] for row in rows] == [["a note of the engine", untested]] * 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"layer_types": ["linear_attention", "full_attention"]}, "it has layers of linear_att"),
        ({"sliding_window": 8}, "its config has a sliding window"),
    ],
)
def test_a_model_that_packs_do_not_fit_is_scored_plainly_with_a_note(
    model: ScoringModel, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], reason: str
) -> None:
    for name, value in change.items():
        monkeypatch.setattr(model.vlm.config.text_config, name, value, raising=False)
    scorer, notes = choose_scorer(model, pack=True)
    assert isinstance(scorer, PlainScorer)
    (note,) = notes
    assert note.startswith(f"{world.LLAVA} scores without packing, which is slower: {reason}")


def test_an_image_that_packs_do_not_fit_is_noted_for_its_unit(
    config: MakeConfig, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = TurnScorer(config())
    table = stage_turns([encoded()], [[make_turn()]])
    whole = scorer(table).to_pylist()[0]["turns"][0]["scores"]

    def refuse(*_: Any) -> Any:
        raise PackingError("the turns of an image begin with different tokens")

    with monkeypatch.context() as patched:
        patched.setattr("c3l_ray.inference.packed_scorer.read_image_prefix", refuse)
        (row,) = scorer(table).to_pylist()
    reason = "the turns of an image begin with different tokens"
    assert row["notes"] == [f"{world.LLAVA} scored some images without packing: {reason}"]
    assert row["turns"][0]["scores"] == pytest.approx(whole, abs=1e-4)
    assert scorer(table).to_pylist()[0]["notes"] == []


def test_packs_that_give_other_numbers_are_noticed(
    model: ScoringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, notes = choose_scorer(model, pack=True)
    assert isinstance(scorer, PackedScorer) and notes == []

    def causal_masks(_: PackAttention, ends_BL: torch.Tensor, *__: Any) -> torch.Tensor:
        num_rows, length = ends_BL.shape
        return torch.ones(num_rows, 1, length, length, dtype=torch.bool).tril()

    monkeypatch.setattr(PackAttention, "make_masks", causal_masks)
    scorer, (note,) = choose_scorer(model, pack=True)
    assert isinstance(scorer, PlainScorer)
    assert "its scores would differ" in note


def test_plain_scoring_on_request_has_no_note(model: ScoringModel) -> None:
    scorer, notes = choose_scorer(model, pack=False)
    assert isinstance(scorer, PlainScorer) and notes == []
