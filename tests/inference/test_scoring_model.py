"""The scoring model: which turns it cannot score and why, tokens, and inputs of several rows."""

from types import SimpleNamespace
from typing import Any

import pytest

from c3l_ray import chat
from c3l_ray.inference.model_inputs import select_image_inputs
from c3l_ray.inference.scoring_model import ScoringModel
from c3l_ray.inference.turn_texts import TurnTexts
from c3l_ray.model_config import ScorerModel
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from tests.inference.builders import scene_turn

SCENE = draw_scene(0)


@pytest.fixture(scope="module")
def model() -> ScoringModel:
    return ScoringModel(ScorerModel(dtype="float32", max_tokens=600), str(world.LLAVA))


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("red", None),
        ("Is <image> red?", "special_tokens"),
        ("the end</s>", "special_tokens"),
        ("", "empty"),
    ],
)
def test_an_answer_that_is_more_or_less_than_text_is_not_scored(
    model: ScoringModel, answer: str, status: str | None
) -> None:
    assert model.unscorable_status(scene_turn(SCENE, "What is it?", answer)) == status


def test_special_tokens_before_a_turn_keep_it_from_being_scored(model: ScoringModel) -> None:
    turn = scene_turn(SCENE, "What is it?", "red")
    history = (("What is there?", "the end</s>"),)
    follow_up = type(turn)(**{**vars(turn), "history": history})
    assert model.unscorable_status(follow_up) == "special_tokens"


def test_a_turn_longer_than_the_models_positions_is_not_scored(model: ScoringModel) -> None:
    answer = " ".join(["red"] * model.max_positions)
    assert model.unscorable_status(scene_turn(SCENE, "What is it?", answer)) == "too_long"


def test_a_turn_that_the_chat_template_changes_is_not_scored(
    model: ScoringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_template = model.processor.apply_chat_template

    def apply_and_shout(messages: Any, **options: Any) -> str:
        text: str = apply_template(messages, **options)
        return text.upper()

    loud = SimpleNamespace(apply_chat_template=apply_and_shout, tokenizer=model.processor.tokenizer)
    monkeypatch.setattr(model, "texts", TurnTexts(loud, model.special_tokens))
    status = model.unscorable_status(scene_turn(SCENE, "What is it?", "red"))
    assert status == "altered_by_template"


@pytest.mark.parametrize("answer", ["s", "/", "<", ">"])
def test_an_answer_that_the_template_holds_too_is_not_its_end(
    model: ScoringModel, answer: str
) -> None:
    text, span = chat.render_turn(model.processor, "What?", answer, with_image=True)
    assert text[slice(*span)] == answer and text[span[1] :] == "</s>"


def test_tokens_and_inputs_of_a_turn_agree(model: ScoringModel) -> None:
    turn = scene_turn(SCENE, "What is it?", "The circle is red.")
    tokenized = model.tokenize_turn(turn, with_image=True)
    inputs = model.process_turn(turn, turn.image)
    num_added = inputs["input_ids"].shape[1] - len(tokenized.ids)
    assert num_added > 0
    answer = slice(tokenized.answer_start + num_added, tokenized.answer_end + num_added)
    assert inputs["input_ids"][0, answer].tolist() == tokenized.answer_ids
    assert model.processor.tokenizer.decode(tokenized.answer_ids).strip() == turn.answer
    assert set(select_image_inputs(inputs)) == {"pixel_values"}
