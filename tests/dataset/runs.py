"""Runs to select from, and what a dataset holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray.schema import RECORDS
from tests.examples import RECORD

ALL_TURNS = 1_000_000
"""A number of turns to keep that no run of a test has."""

WriteRun = Callable[..., Path]
"""Of the fixture `write_run`: a run whose units hold images with these turns."""


def make_turn(
    i2c: float | None, *, clip: float = 0.0, gain: float | None = 1.0, status: str = "ok"
) -> dict[str, Any]:
    """A turn whose question names its i2c."""
    example = RECORD["turns"][0]
    scores = {**example["scores"], "i2c": i2c, "clip": clip, "gain": gain}
    return {**example, "question": f"q {i2c}", "status": status, "scores": scores}


def read_chosen_turns(dataset: Path) -> list[dict[str, Any]]:
    table = pa.concat_tables(map(pq.read_table, sorted(dataset.glob("part-*.parquet"))))
    assert table.schema.equals(RECORDS)
    return [turn for row in table["turns"].to_pylist() for turn in row]


def read_questions(dataset: Path) -> list[str]:
    """The questions of the chosen turns."""
    return [turn["question"] for turn in read_chosen_turns(dataset)]
