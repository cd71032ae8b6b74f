"""The measuring of the world: its arithmetic, and a few scenes through the real scorer."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from c3l_ray.evaluation import shipped_world
from c3l_ray.evaluation.judgement import Judged
from c3l_ray.evaluation.shipped_world import Said, auc, auc_table, ranked_first, talk, truth_table
from c3l_ray.inference.engine import Reply
from c3l_ray.scenes import world as shipped
from c3l_ray.scenes.draw import Scene, Thing, draw_scene
from c3l_ray.scenes.truth import judge
from c3l_ray.schema import SCORE_NAMES

SCENE = Scene(seed=0, things=(Thing(colour="blue", shape="circle", size="large", cell="top left"),))


def said(answer: str, score: float, kind: str = "dialogue") -> Said:
    turn = {
        "kind": kind,
        "question": "What colour is the circle?",
        "answer": answer,
        "scores": dict.fromkeys(SCORE_NAMES, score),
    }
    return Said(scene=SCENE, judged=Judged(image="", truth=judge(SCENE, turn), turn=turn))


SAID = [
    said("The circle is blue.", 0.9),
    said("The circle is red.", 0.1),
    said("The circle is green.", 0.2),
    said("It is a fine day.", 0.5),
    said("The circle is blue.", 0.0, "short"),
]


@pytest.mark.parametrize(
    ("positive", "negative", "area"),
    [
        ([2, 3], [0, 1], 1.0),
        ([0], [1, 2], 0.0),
        ([1], [1], 0.5),
        ([1, 3], [2, 0], 0.75),
        ([], [1], None),
        ([1], [], None),
    ],
)
def test_auc(positive: list[float], negative: list[float], area: float | None) -> None:
    assert auc(positive, negative) == area


def test_the_tables_count_what_was_said() -> None:
    truth = truth_table({"unbiased": SAID}).splitlines()
    assert truth[0] == "| turns | unbiased: true | prior's errors | by other tables |"
    # Of the other tables one gives circles green; none gives them red, which the bias table does.
    assert truth[2] == "| all | 40.0 % of 5 | 50.0 % of 2 | 12.5 % |"
    assert truth[3] == "| dialogue | 25.0 % of 4 | 50.0 % of 2 | 12.5 % |"
    assert truth[4] == "| detail | - | - | - |"
    scores = auc_table(SAID).splitlines()
    assert [line.split(" | ")[0] for line in scores[2:]] == [f"| {name}" for name in SCORE_NAMES]
    assert scores[2].split(" | ")[1:3] == ["0.50", "1.00"]


def test_the_right_description_among_sixteen() -> None:
    class Reads:
        def cosines(self, images: list[Any], texts: list[str]) -> list[float]:
            self.called = getattr(self, "called", -1) + 1
            return [1.0 if i == self.called % 16 // 2 * 2 else 0.0 for i in range(len(texts))]

    scenes = [draw_scene(seed) for seed in range(32)]
    assert ranked_first(Reads(), scenes) == 0.5  # type: ignore[arg-type]


def test_scenes_are_generated_scored_and_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    class Repeats:
        def __init__(self, *_: Any) -> None: ...

        async def ask(self, *_: Any, **__: Any) -> Reply:
            text = "Question: In a word, how many things are there? Answer: four"
            return Reply(text=text, finish="stop", num_tokens=13)

        def close(self) -> None: ...

    monkeypatch.setattr("c3l_ray.inference.generate.Engine", Repeats)
    monkeypatch.setattr(world, "Engine", Repeats)
    scenes = [draw_scene(seed) for seed in range(4)]
    turns = asyncio.run(talk(shipped_world.config_of(shipped.LLAVA, shipped.CLIP, 0.7), scenes))
    assert [turn.scene for turn in turns] == scenes  # the same question again is no turn of its own
    for turn in turns:
        assert (turn.truth == "true") == (len(turn.scene.things) == 4)
        assert turn.blamed() == (turn.truth == "false")
        assert set(turn.judged.turn["scores"]) == set(SCORE_NAMES)
    assert replace(turns[0], scene=SCENE).kind == turns[0].kind
