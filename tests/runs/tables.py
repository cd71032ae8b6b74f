"""Staged rows to commit, and the report of a run."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from c3l_ray import schema
from c3l_ray.schema import STAGED_ROWS, conform
from tests.examples import RECORD


def stage_three_images(unit: str = "u-00000", notes: Sequence[list[str] | None] = ()) -> pa.Table:
    """A good image with the turns of the example, one that is undecodable and one without bytes."""
    return conform(
        {
            "image_id": ["a", "b", "c"],
            "key": ["1", "2", "3"],
            "source": ["a.tar"] * 3,
            "image": [b"x", b"y", None],
            "turns": [RECORD["turns"], [], None],
            "error": [None, "undecodable: bad", "no_image: none"],
            "unit": [unit] * 3,
            "unit_rows": [3] * 3,
            "generate_s": [1.5] * 3,
            "score_s": [0.5] * 3,
            "notes": list(notes) or [None] * 3,
        },
        STAGED_ROWS,
    )


def stage_turns(turns: Sequence[dict[str, Any]], unit: str = "u") -> pa.Table:
    """One image with these turns."""
    columns: dict[str, list[Any]] = {name: ["x"] for name in ("image_id", "key", "source")}
    columns |= {"turns": [list(turns)], "unit": [unit], "unit_rows": [1]}
    return conform(columns, STAGED_ROWS)


def make_report(**fields: Any) -> dict[str, Any]:
    """run.json of a finished job of this version, with some fields replaced."""
    report = {
        "job": "generate",
        "origin": "o",
        "identity": {"schema": schema.VERSION},
        "finished": "2030-01-01T00:00:00+00:00",
    }
    return {**report, **fields}
