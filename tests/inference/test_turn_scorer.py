"""The scoring actor: which turns it scores, against what, and what it leaves alone."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from c3l_ray.config import GenerateConfig
from c3l_ray.images import decode
from c3l_ray.inference.scoring_model import Asked
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.turn_scorer import Score
from c3l_ray.methods import i2c
from c3l_ray.schema import STAGED_ROWS, SCORE_NAMES, conform


def row(image: bytes, turns: list[dict[str, Any]], error: str | None = None) -> dict[str, Any]:
    return {"image": image, "turns": turns, "error": error}


def turn(status: str = "ok", question: str | None = "Is there a red star?") -> dict[str, Any]:
    return {
        "kind": "yes_no",
        "instruction": "Ask.",
        "question": question,
        "answer": question and "No, there is no red star.",
        "status": status,
    }


def unit(rows: list[dict[str, Any]]) -> pa.Table:
    return conform(
        {
            **{name: [each[name] for each in rows] for name in ("image", "turns", "error")},
            **{name: ["x"] * len(rows) for name in ("image_id", "key", "source", "unit")},
            "unit_rows": [len(rows)] * len(rows),
        },
        STAGED_ROWS,
    )


def test_the_actor_scores_good_turns_and_leaves_the_rest(
    config: Callable[..., GenerateConfig], encoded: Callable[..., bytes]
) -> None:
    rows = [
        row(encoded(), [turn(), turn("unparsable", None), turn("duplicate")]),
        row(b"", [], "empty: the image has no bytes"),
        row(b"broken since", [turn()]),
        row(encoded(), [turn()]),
    ]
    out = Score(config())(unit(rows))
    assert out.schema.equals(STAGED_ROWS)
    first, failed, broken, last = out.to_pylist()
    assert [each["scores"] is None for each in first["turns"]] == [False, True, True]
    assert set(first["turns"][0]["scores"]) == set(SCORE_NAMES)
    assert all(value is not None for value in first["turns"][0]["scores"].values())
    assert last["turns"][0]["scores"] == pytest.approx(first["turns"][0]["scores"], abs=1e-5)
    assert failed["error"].startswith("empty") and failed["turns"] == []
    assert broken["error"].startswith("undecodable")
    assert first["score_s"] > 0


def test_a_turn_that_follows_is_scored_after_the_usable_ones_before_it(
    config: Callable[..., GenerateConfig], encoded: Callable[..., bytes]
) -> None:
    first = {**turn(question="Is there a blue star?"), "kind": "given"}
    leading = {**turn("unasked", None), "kind": "given"}
    follows, alone = ({**turn(), "kind": kind} for kind in ("follow_up", "given"))
    unreadable = {**alone, "answer": "the end</s>"}
    rows = [
        row(encoded(), [leading, first, follows]),
        row(encoded(), [first, alone, unreadable]),
        row(encoded(), [alone, {**follows, "answer": "No."}]),
        row(encoded(), [unreadable, {**unreadable, "kind": "follow_up"}]),
    ]
    score = Score(config())
    after, apart, given, refused = score(unit(rows)).to_pylist()

    asked = Asked(
        image=decode(encoded(), 10**6), question=alone["question"], answer=alone["answer"]
    )
    history = ((first["question"], first["answer"]),)
    for found, one in (
        (after["turns"][2], dataclasses.replace(asked, history=history)),
        (apart["turns"][1], asked),
    ):
        (belief,) = PlainScorer(score.frozen).beliefs([one])
        expected = i2c.compute_scores(belief)
        assert {name: found["scores"][name] for name in expected} == pytest.approx(
            expected, abs=1e-4
        )
    scores = [each["turns"][-1]["scores"] for each in (after, given)]
    assert scores[0]["text_logprob"] != pytest.approx(scores[1]["text_logprob"], abs=1e-3)
    assert [each["status"] for each in apart["turns"]] == ["ok", "ok", "refused"]
    assert apart["error"] is None
    assert [each["status"] for each in refused["turns"]] == ["refused", "refused"]
    assert refused["error"] == "no_turn: refused"
