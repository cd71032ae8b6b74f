"""The measures of the shipped world: their arithmetic, and some scenes through the real scorer."""

import asyncio
from typing import Any

import pytest

from c3l_ray.evaluation.shipped_world import (
    SceneTurn,
    area_under_curve,
    format_areas,
    format_truths,
    generate_turns,
    make_config,
    share_ranked_first,
)
from c3l_ray.inference.engine_protocol import Reply
from c3l_ray.inference.scripted_engine import ScriptedEngine
from c3l_ray.methods.c3l import KINDS
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.scenes.draw import Scene, Thing, draw_scene
from c3l_ray.scenes.truth import judge_turn
from c3l_ray.scenes.world import CLIP, LLAVA
from tests.evaluation.builders import make_judged_turn

SCENE = Scene(seed=0, things=(Thing(colour="blue", shape="circle", size="large", cell="top left"),))
QUESTION = "What colour is the circle?"


def make_scene_turn(answer: str, score: float, kind: str = "dialogue") -> SceneTurn:
    truth = judge_turn(SCENE, QUESTION, answer)
    judged = make_judged_turn(truth, score, kind=kind, question=QUESTION, answer=answer)
    return SceneTurn(scene=SCENE, judged=judged)


TURNS = [
    make_scene_turn("The circle is blue.", 0.9),
    make_scene_turn("The circle is red.", 0.1),
    make_scene_turn("The circle is green.", 0.2),
    make_scene_turn("It is a fine day.", 0.5),
    make_scene_turn("The circle is blue.", 0.0, "short"),
]


@pytest.mark.parametrize(
    ("positives", "negatives", "area"),
    [
        ([2, 3], [0, 1], 1.0),
        ([0], [1, 2], 0.0),
        ([1], [1], 0.5),
        ([1, 3], [2, 0], 0.75),
        ([], [1], None),
        ([1], [], None),
    ],
)
def test_area_under_the_curve(
    positives: list[float], negatives: list[float], area: float | None
) -> None:
    assert area_under_curve(positives, negatives) == area


def test_the_tables_count_turns_by_kind_and_truth() -> None:
    truths = format_truths({"unbiased": TURNS}).splitlines()
    assert truths[0] == "| turns | unbiased: true | prior's errors | by other tables |"
    # Of the other tables one makes circles green; none makes them red, as the bias table does.
    assert truths[2] == "| all | 40.0 % of 5 | 50.0 % of 2 | 12.5 % |"
    assert truths[3] == "| dialogue | 25.0 % of 4 | 50.0 % of 2 | 12.5 % |"
    assert truths[4] == "| detail | - | - | - |"
    areas = format_areas(TURNS).splitlines()
    assert [line.split(" | ")[0] for line in areas[2:]] == [f"| {name}" for name in SCORE_NAMES]
    assert areas[2].split(" | ")[1:3] == ["0.50", "1.00"]


def test_the_right_description_is_sought_among_sixteen() -> None:
    class AlternatingClip:
        """Ranks the right description first for every second scene."""

        num_calls = 0

        def cosines(self, images: list[Any], texts: list[str]) -> list[float]:
            even_place = self.num_calls % 16 // 2 * 2
            self.num_calls += 1
            return [float(place == even_place) for place in range(len(texts))]

    scenes = [draw_scene(seed) for seed in range(32)]
    assert share_ranked_first(AlternatingClip(), scenes) == 0.5  # type: ignore[arg-type]


def test_turns_are_generated_scored_and_judged() -> None:
    text = "Question: In a word, how many things are there? Answer: four"
    engine = ScriptedEngine(lambda _: Reply(text=text, finish_reason="stop", num_tokens=13))
    scenes = [draw_scene(seed) for seed in range(4)]
    turns = asyncio.run(generate_turns(make_config(LLAVA, CLIP, 0.7), scenes, engine))
    assert [turn.scene for turn in turns] == scenes  # a repeated question is no turn of its own
    for turn in turns:
        assert (turn.truth == "true") == (len(turn.scene.things) == 4)
        assert turn.is_explained_by_bias() == (turn.truth == "false")
        assert set(turn.judged.turn["scores"] or {}) == set(SCORE_NAMES)
        assert turn.kind in KINDS
