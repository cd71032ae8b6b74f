"""The tokens of an image as the shipped processor makes them, put into turns about it."""

import dataclasses

import pytest

from c3l_ray.inference.image_prefix import ImagePrefix, read_image_prefix
from c3l_ray.inference.packing import PackingError
from c3l_ray.inference.scoring_model import ScoringModel
from c3l_ray.model_config import ScorerModel
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from tests.inference.builders import scene_turn

SCENE = draw_scene(0)


@pytest.fixture(scope="module")
def model() -> ScoringModel:
    return ScoringModel(ScorerModel(dtype="float32"), str(world.LLAVA))


@pytest.fixture(scope="module")
def prefix(model: ScoringModel) -> ImagePrefix:
    turn = scene_turn(SCENE, "What is it?", "red")
    return read_image_prefix(model, turn, turn.image)


def test_the_placeholder_becomes_the_images_tokens(
    model: ScoringModel, prefix: ImagePrefix
) -> None:
    image_token = model.vlm.config.image_token_id
    # LLaVA's placeholder is the image token, which the processor repeats for each of 36 patches.
    assert prefix.leading_ids.count(image_token) == 1 and prefix.placeholder_ids == []
    assert prefix.image_tokens == [image_token] * 35
    assert set(prefix.image_inputs) == {"pixel_values"}
    assert prefix.positions is None  # they are the tokens' depths


def test_an_expanded_turn_is_what_the_processor_makes_of_it(
    model: ScoringModel, prefix: ImagePrefix
) -> None:
    turn = scene_turn(SCENE, "How many things are there?", "There are three things.")
    tokenized = model.tokenize_turn(turn, with_image=True)
    expanded = prefix.expand_turn(tokenized)
    assert expanded.ids == model.process_turn(turn, turn.image)["input_ids"][0].tolist()
    assert expanded.answer_ids == tokenized.answer_ids


def test_a_turn_that_begins_otherwise_does_not_fit(
    model: ScoringModel, prefix: ImagePrefix
) -> None:
    turn = scene_turn(SCENE, "What is it?", "red")
    tokenized = model.tokenize_turn(turn, with_image=True)
    changed = dataclasses.replace(tokenized, ids=[0, *tokenized.ids[1:]])
    with pytest.raises(PackingError, match="begin with different tokens"):
        prefix.expand_turn(changed)
