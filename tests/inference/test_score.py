"""The scoring actor: which turns it scores, against what, and what it leaves alone."""

from collections.abc import Callable
from typing import Any

import pytest

from c3l_ray.config import GenerateConfig
from c3l_ray.inference.score import Score
from c3l_ray.schema import FLOW, SCORE_NAMES, conform


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


def test_the_actor_scores_good_turns_and_leaves_the_rest(
    config: Callable[..., GenerateConfig], encoded: Callable[..., bytes]
) -> None:
    rows = [
        row(encoded(), [turn(), turn("unparsable", None), turn("duplicate")]),
        row(b"", [], "empty: the image has no bytes"),
        row(b"broken since", [turn()]),
        row(encoded(), [turn()]),
    ]
    names = ["image", "turns", "error"]
    table = conform(
        {
            **{name: [each[name] for each in rows] for name in names},
            **{name: ["x"] * 4 for name in ("image_id", "key", "source", "unit")},
            "unit_rows": [4] * 4,
        },
        FLOW,
    )
    out = Score(config())(table)
    assert out.schema.equals(FLOW)
    first, failed, broken, last = out.to_pylist()
    assert [each["scores"] is None for each in first["turns"]] == [False, True, True]
    assert set(first["turns"][0]["scores"]) == set(SCORE_NAMES)
    assert all(value is not None for value in first["turns"][0]["scores"].values())
    assert last["turns"][0]["scores"] == pytest.approx(first["turns"][0]["scores"], abs=1e-5)
    assert failed["error"].startswith("empty") and failed["turns"] == []
    assert broken["error"].startswith("undecodable")
    assert first["score_s"] > 0
