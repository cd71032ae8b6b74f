import random
from dataclasses import replace

import pytest

from c3l_ray.methods.c3l import KINDS
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import FORMS, describe_scene, draw_turn
from tests.scenes.builders import SCENE


@pytest.mark.parametrize("kind", KINDS)
def test_a_turn_of_every_kind_can_be_drawn_from_every_scene(kind: str) -> None:
    assert any(form.kind == kind for form in FORMS)
    for seed in range(200):
        question, answer = draw_turn(draw_scene(seed), kind, random.Random(seed))
        assert question.endswith("?") and answer and "{" not in question + answer


def test_a_description_has_three_to_five_sentences() -> None:
    assert describe_scene(SCENE).count(".") == 4
    assert describe_scene(replace(SCENE, things=SCENE.things[:1])) == (
        "There is one thing. There is a small red circle at the top left. "
        "There is nothing at the top middle."
    )
    for seed in range(200):
        assert 3 <= describe_scene(draw_scene(seed)).count(".") <= 5
