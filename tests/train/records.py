"""Records to learn from, without a generator: scenes, and turns that are true of them or not."""

import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from c3l_ray import schema
from c3l_ray.identity import Identity
from c3l_ray.methods import c3l
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.runs.commit import commit_unit
from c3l_ray.runs.folder import REPORT, RunFolder
from c3l_ray.scenes.draw import Scene, draw_scene
from c3l_ray.scenes.language import draw_turn
from c3l_ray.scenes.render import render_scene
from c3l_ray.scenes.truth import FALSE, judge_turn
from c3l_ray.schema import STAGED_ROWS, Alternative, Record, Scores, Turn, conform
from c3l_ray.train.training_config import TrainConfig

NUM_TURNS = 5

MakeTrainConfig = Callable[..., TrainConfig]
"""Of the fixture `train_config`: a config over the shipped model, with some fields replaced."""


def make_record(seed: int) -> Record:
    """A scene with five turns, the second of which is true: by its gain and its i2c.

    The first has no alternatives, those of the fourth agree with it, and the others have different
    ones.
    """
    scene = draw_scene(seed)
    image_id = f"scene-{seed:04d}"
    rng = random.Random(seed)
    turns = [
        _make_turn(request, scene, true=place == 1, rng=rng)
        for place, request in enumerate(c3l.plan_requests(image_id, NUM_TURNS))
    ]
    for place, turn in enumerate(turns):
        turn["alternatives"] = _make_alternatives(turn, place, random.Random(f"{seed} {place}"))
    return {
        "image_id": image_id,
        "key": str(seed),
        "source": "scenes.tar",
        "image": encode_png(scene),
        "caption": draw_turn(scene, "detail", rng)[1],
        "meta": scene.to_json(),
        "turns": turns,
        "status": "ok",
        "error": None,
        "origin": "test",
    }


def encode_png(scene: Scene) -> bytes:
    buffer = io.BytesIO()
    render_scene(scene).save(buffer, "PNG")
    return buffer.getvalue()


def _make_turn(request: c3l.TurnRequest, scene: Scene, *, true: bool, rng: random.Random) -> Turn:
    question, answer = draw_turn(scene, request.kind, rng)
    while not true and judge_turn(scene, question, answer) != FALSE:
        question, answer = draw_turn(draw_scene(rng.randrange(10**6)), request.kind, rng)
    scores: Scores = dict.fromkeys(SCORE_NAMES, rng.random())  # type: ignore[assignment]
    scores["i2c"] = true + 0.1 * rng.random()
    scores["gain"] = 1.0 if true else -1.0
    return {
        "kind": request.kind,
        "instruction": request.instruction,
        "question": question,
        "answer": answer,
        "draft": None,
        "correction": None,
        "reply": None,
        "status": "ok",
        "finish_reason": "stop",
        "num_tokens": 10,
        "scores": scores,
        "draft_scores": None,
        "token_gains": None,
        "alternatives": None,
    }


def _make_alternatives(turn: Turn, place: int, rng: random.Random) -> list[Alternative] | None:
    """Answers to a turn's question: its own again, one of two other scenes each, one of no use."""
    if place == 0:
        return None
    own: Alternative = {
        "answer": str(turn["answer"]),
        "num_samples": 2,
        "status": "ok",
        "scores": turn["scores"],
    }
    others: list[Alternative] = []
    while place != 3 and len(others) < 2:
        _, answer = draw_turn(draw_scene(rng.randrange(10**6)), turn["kind"], rng)
        if answer not in (own["answer"], *(other["answer"] for other in others)):
            scores: Scores = dict.fromkeys(SCORE_NAMES, rng.random())  # type: ignore[assignment]
            others.append({"answer": answer, "num_samples": 1, "status": "ok", "scores": scores})
    cut: Alternative = {**own, "answer": "Yes, a", "status": "truncated", "scores": None}
    return [*others, own, cut]


def write_run(
    path: Path | str,
    *,
    num_scenes: int = 24,
    scenes_per_file: int = 8,
    keep_images: bool = True,
    finished: bool = True,
    metas: Sequence[str] = (),
    **identity: Any,
) -> None:
    """A run of so many scenes, some to a file; `metas` replaces the first scenes' own.

    `identity` adds to what the run says of itself.
    """
    folder = RunFolder.open(str(path))
    run = Identity({"schema": schema.VERSION, "keep_images": keep_images, **identity})
    folder.claim(run, "generate")
    for first in range(0, num_scenes, scenes_per_file):
        numbers = range(first, min(first + scenes_per_file, num_scenes))
        records = [make_record(number) for number in numbers]
        for record, meta in zip(records, metas[first:], strict=False):
            record["meta"] = meta
        columns = {
            name: [record[name] for record in records]
            for name in ("image_id", "key", "source", "image", "caption", "meta", "turns")
        }
        unit = f"unit-{first:04d}"
        staged = conform(
            {
                **columns,
                "unit": [unit] * len(records),
                "unit_rows": [len(records)] * len(records),
            },
            STAGED_ROWS,
        )
        commit_unit(folder, unit, "scenes.tar", staged, run.origin)
    if finished:
        report = folder.read_json(REPORT)
        assert report is not None
        folder.write_json(REPORT, {**report, "finished": "2025-01-01T00:00:00+00:00"})
