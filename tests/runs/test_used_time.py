"""How long a run's commands have worked, the killed ones too."""

import os
import socket
from pathlib import Path
from typing import Any

from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.progress_log import ProgressLog
from c3l_ray.runs.used_time import measure_earlier_commands


def at(minute: int) -> str:
    return f"2030-01-01T{minute // 60:02d}:{minute % 60:02d}:00+00:00"


def make_command(started: int, ended: int | None, *, host: str = "pod", pid: int = 1) -> Any:
    return {
        "command": "python -m jobs.generate",
        "host": host,
        "pid": pid,
        "started": at(started),
        "ended": None if ended is None else at(ended),
        "state": "running" if ended is None else "failed",
    }


def test_each_earlier_command_counts_until_it_ended_or_was_last_seen(tmp_path: Path) -> None:
    folder = RunFolder.open(str(tmp_path))
    assert measure_earlier_commands(folder) == 0
    commands = [
        make_command(0, 10),
        make_command(100, None),  # killed, with its last line after 30 minutes
        make_command(200, None, pid=2),  # killed before it had a line; the next one came at once
        make_command(220, None, host=socket.gethostname(), pid=os.getpid()),
    ]
    killed = ProgressLog(folder, started=at(100), host="pod", pid=1)
    for minute in (101, 130):
        killed.add(at(minute), "running", {"images": 1})
    folder.write_json("run.json", {"commands": commands})
    assert measure_earlier_commands(folder) == 60 * (10 + 30 + 20)
