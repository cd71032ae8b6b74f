"""Records to learn from, without a generator: scenes, and turns that are true of them or not."""

import io
import random
from pathlib import Path
from typing import Any

from c3l_ray.runs.folder import Output
from c3l_ray.methods import c3l
from c3l_ray.scenes.draw import Scene, draw_scene, render
from c3l_ray.scenes.language import draw_turn
from c3l_ray.scenes.truth import FALSE, judge
from c3l_ray.schema import STAGED_ROWS, SCORE_NAMES, conform

NUM_TURNS = 5


def record(seed: int) -> dict[str, Any]:
    """A scene with five turns, the second of which is true: by its gain and its i2c."""
    scene = draw_scene(seed)
    image_id = f"scene-{seed:04d}"
    rng = random.Random(seed)
    turns = [
        turn(request, scene, true=place == 1, rng=rng)
        for place, request in enumerate(c3l.plan_requests(image_id, NUM_TURNS))
    ]
    return {
        "image_id": image_id,
        "key": str(seed),
        "source": "scenes.tar",
        "image": png(scene),
        "caption": draw_turn(scene, "detail", rng)[1],
        "meta": scene.to_json(),
        "turns": turns,
        "status": "ok",
        "error": None,
        "origin": "test",
    }


def png(scene: Scene) -> bytes:
    buffer = io.BytesIO()
    render(scene).save(buffer, "PNG")
    return buffer.getvalue()


def turn(request: c3l.TurnRequest, scene: Scene, *, true: bool, rng: random.Random) -> dict[str, Any]:
    question, answer = draw_turn(scene, request.kind, rng)
    while not true and judge(scene, {"question": question, "answer": answer}) != FALSE:
        question, answer = draw_turn(draw_scene(rng.randrange(10**6)), request.kind, rng)
    scores = dict.fromkeys(SCORE_NAMES, rng.random())
    return {
        "kind": request.kind,
        "instruction": request.instruction,
        "question": question,
        "answer": answer,
        "draft": None,
        "reply": None,
        "status": "ok",
        "finish": "stop",
        "num_tokens": 10,
        "scores": scores | {"i2c": true + 0.1 * rng.random(), "gain": 1.0 if true else -1.0},
        "draft_scores": None,
        "token_gain": None,
    }


def write_run(folder: Path | str, *, num_scenes: int = 24, scenes_per_file: int = 8) -> None:
    """A finished run of so many scenes, some to a file."""
    output = Output(str(folder))
    output.claim("test", {"images": True})
    for first in range(0, num_scenes, scenes_per_file):
        records = [record(i) for i in range(first, min(first + scenes_per_file, num_scenes))]
        columns = {
            name: [each[name] for each in records]
            for name in ("image_id", "key", "source", "image", "caption", "meta", "turns")
        }
        unit = f"unit-{first:04d}"
        output.commit(
            unit,
            "scenes.tar",
            conform(
                {
                    **columns,
                    "unit": [unit] * len(records),
                    "unit_rows": [len(records)] * len(records),
                },
                STAGED_ROWS,
            ),
            "test",
        )
    output.write_json("run.json", {"origin": "test", "facts": {"images": True}, "finished": 1})
