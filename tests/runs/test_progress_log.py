"""Lines of progress in the run's folder: of each command its own, and what they tell of speed."""

import datetime
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.runs import progress_log
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.progress_log import ProgressLog, measure_recent_speed, read_latest_lines

STARTED = "2030-01-01T10:00:00+00:00"


def make_line(seconds: float, **counts: Any) -> dict[str, Any]:
    time = datetime.datetime.fromisoformat(STARTED) + datetime.timedelta(seconds=seconds)
    return {"time": time.isoformat(), **counts}


def test_each_command_has_a_file_and_the_latest_is_read(tmp_path: Path) -> None:
    folder = RunFolder.open(str(tmp_path))
    assert read_latest_lines(folder) == []
    later = ProgressLog(folder, started="2030-01-02T00:00:00+00:00", host="b", pid=2)
    earlier = ProgressLog(folder, started=STARTED, host="a", pid=1)
    for number in range(2):
        later.add("t", "running", {"images": number})
        earlier.add("t", "running", {"images": 100 + number})
    assert (tmp_path / "progress" / "20300101T100000-a-1.jsonl").read_text().count("\n") == 2
    assert read_latest_lines(folder) == [
        {"time": "t", "state": "running", "images": number} for number in range(2)
    ]


def test_a_file_keeps_its_latest_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_log, "MAX_LINES", 3)
    folder = RunFolder.open(str(tmp_path))
    log = ProgressLog(folder, started=STARTED, host="a", pid=1)
    for number in range(5):
        log.add("t", "running", {"images": number})
    assert [line["images"] for line in read_latest_lines(folder)] == [2, 3, 4]


@pytest.mark.parametrize(
    ("lines", "speed"),
    [
        ([], None),
        ([make_line(0, done=5)], None),
        ([make_line(0), make_line(60, done=5)], None),
        ([make_line(0, done=0), make_line(60, done=30)], 0.5),
        ([make_line(0, done=0), make_line(60, done=600), make_line(660, done=600)], 0.0),
        ([make_line(0, done=0), make_line(3600, done=7200)], 2.0),  # the lines between are lost
        ([make_line(0, done=0), make_line(0, done=5)], None),
    ],
)
def test_the_recent_speed_is_that_of_ten_minutes(
    lines: list[dict[str, Any]], speed: float | None
) -> None:
    assert measure_recent_speed(lines, "done") == speed
