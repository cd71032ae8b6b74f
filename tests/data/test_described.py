"""What is said of a run's turns: counts of the good ones, and means."""

from pathlib import Path

import pytest

from c3l_ray.data.commit import Output
from c3l_ray.data.turns import described
from c3l_ray.schema import FLOW, conform
from tests.test_schema import RECORD


def test_good_turns_are_counted_with_how_varied_they_are(tmp_path: Path) -> None:
    output, example = Output(str(tmp_path)), RECORD["turns"][0]
    asked = [("short", "What?", 1.0), ("short", "WHAT?", 2.0), ("detail", "Where?", None)]
    turns = [
        {**example, "kind": kind, "question": question, "scores": {"i2c": i2c}}
        for kind, question, i2c in asked
    ]
    bad = {**example, "kind": "yes_no", "question": "Is it?", "status": "truncated"}
    columns = {name: ["x"] for name in ("image_id", "key", "source")}
    table = conform({**columns, "turns": [[*turns, bad]], "unit": ["u"], "unit_rows": [1]}, FLOW)
    output.commit("u", "a.tar", table, "o")
    found = described(output)
    assert (found["turns"], found["questions"], found["kinds"]) == (3, 2, 2)
    assert found["i2c"] == pytest.approx(1.5) and found["gain"] is None


def test_a_run_without_turns_is_described_too(tmp_path: Path) -> None:
    assert described(Output(str(tmp_path)))["turns"] == 0
