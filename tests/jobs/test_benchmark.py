"""A benchmark through the job as a user starts it: files made, asked, interrupted, compared."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from c3l_ray.scenes import world
from jobs.evaluate import run_command
from tests.jobs.commands import check_refusal, read_records, read_report, run_job

NUM_SCENES = 24


def read_result(output: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((output / "result.json").read_text())
    return result


def test_questions_are_made_asked_resumed_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pope, output = tmp_path / "pope", tmp_path / "run"
    flags = ["make-pope", "--scenes", str(NUM_SCENES), "--output", str(pope)]
    monkeypatch.setattr("sys.argv", ["jobs.evaluate", *flags, "--objects-per-image", "1"])
    run_command()
    assert f"of {NUM_SCENES} images" in capsys.readouterr().out
    lines = (pope / "pope_random.json").read_text().splitlines()
    gone = json.loads(lines[-1])["image"]
    (pope / "images" / gone).unlink()
    command = [
        *("benchmark", "--benchmark", "pope", "--data", str(pope)),
        *("--image-root", str(pope / "images"), "--output", str(output)),
        *("--model.name", str(world.LLAVA), "--model.dtype", "float32"),
        *("--model.max-len", "256", "--model.max-seqs", "32"),
    ]
    trial = run_job("evaluate", *command, "--limit", "4")
    assert trial.returncode == 0, trial.stderr
    assert "go on     by the same command without --limit" in trial.stdout
    num_asked = read_result(output)["questions"] - read_result(output)["not_asked"]
    assert 0 < num_asked < 6 * NUM_SCENES
    committed = {path.name for path in (output / "manifests").iterdir()}

    done = run_job("evaluate", *command, "--against", str(output))
    assert done.returncode == 0, done.stderr
    assert committed < {path.name for path in (output / "manifests").iterdir()}
    result = read_result(output)
    assert (result["questions"], result["not_asked"]) == (6 * NUM_SCENES, 0)
    assert result["failed"] == {"unreadable": 6} and gone in str(result["failure_examples"])
    assert read_report(output)["job"] == "benchmark" and read_report(output)["finished"]
    # The model answers in sentences; what it says of random questions is mostly right.
    rows = pq.read_table(output / "answers.parquet").to_pylist()
    answers = [row for row in rows if row["answer"] is not None]
    assert len(answers) == 6 * (NUM_SCENES - 1)
    assert all(row["answer"].split()[0] in ("Yes,", "No,") for row in answers)
    right = sum(row["is_right"] for row in answers if row["group"] == "random")
    accuracy = result["figures"]["random"]["accuracy"]
    assert accuracy == right / (2 * (NUM_SCENES - 1)) and accuracy > 0.75
    assert set(result["figures"]) == {"random", "popular", "adversarial", "all"}
    record = next(row for row in read_records(output) if row["status"] == "ok")
    assert record["image"] is None and record["turns"][0]["scores"] is None
    # What was asked in the trial was not asked anew, and is compared with itself.
    groups = result["against"]["groups"]
    assert groups["all"]["items"] > 0 and groups["all"]["p_value"] == 1.0
    assert groups["all"]["differences"]["f1"]["value"] == 0.0
    assert "McNemar" in done.stdout

    (pope / "pope_random.json").write_text("\n".join(lines[:-1]))
    other = run_job("evaluate", *command, "--against", str(output))
    check_refusal(other, f"--against {output}: answers other questions of pope than --data has")
    check_refusal(run_job("evaluate", *command), "questions: ")
