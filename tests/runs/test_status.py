"""Where a run stands, as it is read from its folder: alive, silent, ended, and stage by stage."""

import datetime
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.runs.commit import commit_unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.progress_log import ProgressLog
from c3l_ray.runs.state import CommandLog, note_not_done
from c3l_ray.runs.status import format_statuses, read_statuses
from tests.runs.tables import make_report, stage_three_images

NOW = datetime.datetime(2030, 1, 1, 12, 0, tzinfo=datetime.UTC)
COMMAND = {"command": "python -m jobs.generate --input x", "host": "node-1"}


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """An empty run folder: every test here runs on both."""
    if request.param == "local":
        return RunFolder.open(str(tmp_path / "run"), "RUN")
    return RunFolder.open(f"{request.getfixturevalue('s3')}/run", "RUN")


def describe_run(minutes_ago: float, **fields: Any) -> dict[str, Any]:
    """run.json of a job that is half done, as it was written some minutes ago."""
    updated = NOW - datetime.timedelta(minutes=minutes_ago)
    counts = {"images": 1200, "status": {"ok": 1170, "failed": 30}, "reasons": {"empty": 30}}
    speed = {"total_images": 4000, "images_per_s": 2.5, "minutes_left": 18.7}
    state = {"state": "running", "finished": None, "commands": [COMMAND]}
    report = make_report(**counts, **speed, **state, updated=updated.isoformat())
    return {**report, **fields}


def show(folder: RunFolder) -> str:
    return format_statuses(read_statuses(folder, NOW))


def test_an_end_that_kuberay_was_not_told_is_shown(folder: RunFolder) -> None:
    note_not_done(folder, 2, "no run yet")
    assert folder.read_json("run.json") is None
    folder.write_json("run.json", describe_run(1, state="failed", commands=[]))
    note_not_done(folder, 4, "9 of 10 images failed")
    assert "\n  not done   status 4: 9 of 10 images failed\n" in show(folder)
    CommandLog(folder, "o").note("running")  # another command has begun
    assert "not done" not in show(folder)


def test_a_live_run_says_how_far_and_how_fast_it_is(folder: RunFolder) -> None:
    folder.write_json("run.json", describe_run(0.5))
    assert show(folder).splitlines() == [
        f"{folder.path}: generate, running, 1,200 of 4,000 images, 30 failed, 2.5 a second, "
        "19 minutes left",
        "  failed     empty 30",
        "  last word  30 seconds ago",
        "  command    python -m jobs.generate --input x (on node-1)",
    ]


def test_the_speed_of_a_live_run_is_that_of_the_last_ten_minutes(folder: RunFolder) -> None:
    """As its command's lines have it: an hour at 10 a second, and since then 1 a second."""
    folder.write_json("run.json", describe_run(0.5))
    earlier = ProgressLog(folder, started="2030-01-01T08:00:00+00:00", host="a", pid=9)
    earlier.add("2030-01-01T08:01:00+00:00", "running", {"new_images": 7})
    log = ProgressLog(folder, started="2030-01-01T10:30:00+00:00", host="a", pid=1)
    for minute in range(61):
        time = NOW - datetime.timedelta(minutes=60.5 - minute)
        done = 600 * min(minute, 40) + 60 * max(0, minute - 40)
        log.add(time.isoformat(), "running", {"new_images": done})
    assert "2.5 a second" not in show(folder)
    assert "1,200 of 4,000 images, 30 failed, 1 a second, 47 minutes left\n" in show(folder)
    folder.write_json("run.json", describe_run(0.5, images_per_s=None))  # it boots
    assert "a second" not in show(folder)


def test_of_a_silent_run_the_manifests_are_counted(folder: RunFolder) -> None:
    commit_unit(folder, "u", "a.tar", stage_three_images(), "o")
    folder.write_json("run.json", describe_run(3))
    text = show(folder)
    assert text.startswith(f"{folder.path}: generate, running, 3 of 4,000 images, 2 failed\n")
    assert "  failed     undecodable 1, no_image 1\n" in text
    assert "  last word  3 minutes ago: is it dead?\n" in text


@pytest.mark.parametrize("state", ["stopped", "failed", "finished"])
def test_a_run_that_ended_is_not_thought_dead(state: str, folder: RunFolder) -> None:
    error = "no GPU" if state == "failed" else None
    folder.write_json("run.json", describe_run(600, state=state, error=error))
    text = show(folder)
    assert f"{state}, 1,200 of 4,000 images, 30 failed\n" in text
    assert "  last word  10 hours ago\n" in text
    assert ("  error      no GPU\n" in text) == (state == "failed")


def test_a_run_that_was_only_claimed_has_begun(folder: RunFolder) -> None:
    folder.write_json("run.json", make_report(finished=None))
    assert show(folder) == f"{folder.path}: generate, begun, 0 images"


def test_a_training_counts_its_steps(folder: RunFolder) -> None:
    report = describe_run(1, job="train", steps=400)
    folder.write_json("run.json", report)
    assert "train, running, 0 of 400 steps\n" in show(folder)
    line = {"step": 100, "seconds_per_step": 2.0}
    folder.write_json("measurements.json", [{"step": 50}, line])
    assert "running, 100 of 400 steps, 0.5 a second, 10 minutes left\n" in show(folder)
    folder.write_json("run.json", {**report, "state": "finished", "finished": "now"})
    assert "finished, 400 of 400 steps\n" in show(folder)


def test_the_stages_of_c3l_have_a_line_each(folder: RunFolder) -> None:
    top = describe_run(30, job="c3l", config={"rounds": 1})
    folder.write_json("run.json", top)
    folder.write_json("round-0/run.json", describe_run(29, state="finished"))
    folder.write_json("train-0/run.json", describe_run(0.5, job="train", steps=40))
    lines = show(folder).splitlines()
    assert [line.split(",")[0] for line in lines[:5]] == [
        f"{folder.path}: c3l",
        "  round-0    finished",
        "  train-0    running",
        "  round-1    to come",
        "  dataset    to come",
    ]
    assert lines[5] == "  failed     round-0: empty 30"
    assert lines[6] == "  last word  30 seconds ago"  # of the stage that works
    folder.write_json("dataset/selection.json", {"turns": 7, "finished": "now"})
    assert "  dataset    finished, 7 turns" in show(folder)


def test_what_is_no_run_is_refused(folder: RunFolder) -> None:
    with pytest.raises(PreflightError, match=r"RUN .*run: not the output of a job: it has no run"):
        show(folder)
    folder.write("run.json", b"{")
    with pytest.raises(PreflightError, match="cannot be read"):
        show(folder)
    folder.write_json("run.json", ["job"])
    with pytest.raises(PreflightError, match="is not that of a run"):
        show(folder)
