import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from c3l_ray.config import GenerateConfig
from c3l_ray.runs import report as run_module
from c3l_ray.runs.folder import Manifest, Output
from c3l_ray.runs.report import Run
from c3l_ray.schema import STAGED_ROWS, conform
from tests.test_schema import RECORD

UNIT = Manifest(
    unit="u",
    source="a.tar",
    origin="o",
    attempt="a",
    rows=10,
    status={"ok": 9, "failed": 1},
    reasons={"empty": 1},
    examples={"empty": "a.tar 1: empty: no bytes"},
    turns={"ok": 40, "unparsable": 5},
    tokens=900,
    corrections={"complete": 30, "nothing": 10},
    correction_tokens={"generated": 500, "kept": 400},
    seconds={"generate": 2.0, "score": 1.0},
)


@pytest.fixture
def state(config: Callable[..., GenerateConfig]) -> Run:
    made = config()
    return Run(Output(made.output), made, {"turns": 5}, "o")


def test_run_json_is_the_sum_of_the_manifests(state: Run) -> None:
    state.add(UNIT, new=False)
    state.add(dataclasses.replace(UNIT, rows=5, status={"ok": 5}, reasons={}), new=True)
    written = state.write(finished=True)
    there = json.loads((Path(state.output.path) / "run.json").read_text())
    assert there == json.loads(json.dumps(written))
    assert written["images"] == 15 == sum(written["status"].values())
    assert written["reasons"] == {"empty": 1}
    assert (written["turns"], written["tokens"]) == (90, 1800)
    assert written["corrections"] == {"complete": 60, "nothing": 20}
    assert written["correction_tokens"] == {"generated": 1000, "kept": 800}
    assert written["seconds"]["generate"] == 4.0 and written["seconds"]["wall"] >= 0
    assert written["config"]["model"]["dtype"] == "float32" and written["origin"] == "o"
    assert written["finished"] is not None


def test_a_line_says_how_far_how_fast_and_how_much_longer(state: Run) -> None:
    state.total_images = 40
    state.add(UNIT, new=False)
    assert "images=10/40 failed=1 turns=45 images_per_s=0.00 minutes_left=?" in state.line()
    state.add(UNIT, new=True)
    assert "images=20/40" in state.line() and "minutes_left=?" not in state.line()


def test_a_line_is_printed_while_nothing_comes(
    state: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_module, "LINE_EVERY_S", 0.02)

    def slow() -> Iterator[Manifest]:
        time.sleep(0.2)
        yield UNIT

    state.follow(slow())
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 3 and all(line.startswith("progress images=0/?") for line in lines)
    assert state.images == 10
    assert json.loads((Path(state.output.path) / "run.json").read_text())["finished"] is None


def test_a_finished_run_says_which_scores_follow_length(state: Run) -> None:
    example = RECORD["turns"][0]
    for number in range(2):
        turns = [
            {
                **example,
                "answer": "x" * length,
                "scores": {"i2c": length / 10, "gain": -length, "clip": 0.5},
            }
            for length in range(1 + number, 9, 2)
        ]
        unit = f"u-{number}"
        columns = {name: ["x"] for name in ("image_id", "key", "source")}
        unscored = {**example, "status": "unparsable", "scores": None, "answer": None}
        table = conform(
            {**columns, "turns": [[*turns, unscored]], "unit": [unit], "unit_rows": [1]}, STAGED_ROWS
        )
        state.add(state.output.commit(unit, "a.tar", table, "o"), new=True)
    assert "length_correlation" not in state.write()
    found = state.write(finished=True)["length_correlation"]
    assert (found["i2c"], found["gain"], found["clip"]) == (1.0, -1.0, None)
    assert found["flip_rate"] is None  # no turn has it


def test_a_run_without_turns_has_no_correlations(state: Run) -> None:
    assert set(state.write(finished=True)["length_correlation"].values()) == {None}
