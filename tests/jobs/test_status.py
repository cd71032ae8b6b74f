"""The state of a run as a user watches it, until it has ended."""

import datetime
import time
from pathlib import Path

import pytest

from c3l_ray.runs.folder import RunFolder
from jobs import status
from jobs.status import StatusConfig
from tests.runs.tables import make_report


def test_a_watched_run_is_shown_until_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder.open(str(tmp_path))
    counts = {"images": 1, "status": {}, "reasons": {}, "total_images": 2}
    updated = datetime.datetime.now(datetime.UTC).isoformat()
    states = iter(["running", "running", "finished", "never shown"])

    def write_next(_: float = 0.0) -> None:
        report = make_report(state=next(states), updated=updated, **counts)
        folder.write_json("run.json", report)

    write_next()
    monkeypatch.setattr(time, "sleep", write_next)
    status.run(StatusConfig(run=str(tmp_path), watch=True))
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith(str(tmp_path))]
    assert [line.split(", ")[1] for line in lines] == ["running", "running", "finished"]
    assert "\033" not in printed  # no terminal
    status.run(StatusConfig(run=str(tmp_path)))
    assert "finished, 1 of 2 images" in capsys.readouterr().out
