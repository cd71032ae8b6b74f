"""Where a run stands: what run.json says of its commands, however they ended."""

import signal
import socket
import sys
from pathlib import Path

import pytest

from c3l_ray.errors import C3LError, PreflightError, Stopped
from c3l_ray.runs import state
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.state import CommandLog, note_failure


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A folder that is claimed, in a process of a command with a blank in a path."""
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "jobs.generate", "my photos"])
    times = iter(f"2030-01-01T00:00:{second:02}+00:00" for second in range(60))
    monkeypatch.setattr(state, "now", lambda: next(times))
    folder = RunFolder.open(str(tmp_path))
    folder.write_json("run.json", {"origin": "o", "images": 3, "finished": "earlier"})
    return folder


def test_a_state_is_noted_beside_what_run_json_says(folder: RunFolder) -> None:
    CommandLog(folder, "o").note("running")
    report = folder.read_json("run.json")
    assert report is not None
    assert (report["state"], report["images"], report["finished"]) == ("running", 3, None)
    (command,) = report["commands"]
    assert command["command"] == "python -m jobs.generate 'my photos'"
    assert command["host"] == socket.gethostname()
    assert (command["started"], command["ended"]) == (report["started"], None)
    assert report["started"] < report["updated"]


@pytest.mark.parametrize(
    ("end", "expected", "error"),
    [
        (KeyboardInterrupt(), "stopped", None),
        (SystemExit(143), "stopped", None),
        (Stopped(signal.SIGTERM, "5 of 9 images"), "stopped", None),
        (
            Stopped(signal.SIGALRM, "5 of 9 images", bound="--max-hours 2"),
            "stopped",
            "stopped by --max-hours 2; 5 of 9 images",
        ),
        (C3LError("the engine died\nits log"), "failed", "the engine died"),
        (PreflightError("--pools: need 3 GPUs"), "failed", "--pools: need 3 GPUs"),
        (ZeroDivisionError(), "failed", "ZeroDivisionError"),
    ],
)
def test_every_way_out_is_noted(
    end: BaseException, expected: str, error: str | None, folder: RunFolder
) -> None:
    commands = CommandLog(folder, "o")
    with pytest.raises(type(end)), note_failure(commands.note):
        raise end
    report = folder.read_json("run.json")
    assert report is not None
    assert (report["state"], report["error"]) == (expected, error)
    (command,) = report["commands"]
    assert command["state"] == expected and command["ended"] is not None


def test_commands_follow_each_other_also_those_of_two_at_once(folder: RunFolder) -> None:
    killed, second, third = (CommandLog(folder, "o") for _ in range(3))
    killed.note("running")
    second.note("running")
    third.note("running")
    second.note("finished")
    report = folder.read_json("run.json")
    assert report is not None
    assert [command["state"] for command in report["commands"]] == [
        *("running", "running", "finished")
    ]
    assert report["started"] == killed.mine["started"] and report["state"] == "finished"


def test_a_folder_that_another_job_took_is_left_alone(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    commands = CommandLog(folder, "o")
    theirs = {"origin": "theirs"}
    folder.write_json("run.json", theirs)
    with pytest.raises(KeyboardInterrupt), note_failure(commands.note):
        raise KeyboardInterrupt
    assert folder.read_json("run.json") == theirs
    assert "run.json could not be written" in caplog.text
