"""Runs to select from, and what a dataset holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

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


def read_rows(dataset: Path) -> list[dict[str, Any]]:
    """The rows of a dataset, in their order."""
    files = sorted((dataset / "data").glob("part-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def move_parts_up(dataset: Path) -> None:
    """Lets the Parquet files lie where older versions put them."""
    for file in (dataset / "data").iterdir():
        file.rename(dataset / file.name)
    (dataset / "data").rmdir()


def read_questions(dataset: Path) -> list[str]:
    """The questions of the chosen turns."""
    messages = [message for row in read_rows(dataset) for message in row["messages"]]
    return [message["content"] for message in messages if message["role"] == "user"]
