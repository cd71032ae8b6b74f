"""How far a command has come, minute by minute: JSON lines in the run's folder.

Why there, and not on stderr: what a command has printed dies with its pod, and stderr is read by
people. Each command writes a file of its own, `progress/TIME-HOST-PID.jsonl`, so that two on one
output do not overwrite each other's lines, and S3, which cannot append, takes the whole file anew.
"""

import datetime
import json
from collections.abc import Mapping
from typing import Any

from c3l_ray.runs.folder import RunFolder

FOLDER = "progress"
RECENT_S = 600.0
"""Seconds over which the recent speed is taken."""
MAX_LINES = 10_000
"""Lines that a file keeps, the latest ones: a week of minutes."""


class ProgressLog:
    """The lines of one command.

    Args:
        folder: of the run.
        started: when the command began, in UTC, as run.json has it.
        host: on which it runs.
        pid: of its process there.
    """

    def __init__(self, folder: RunFolder, *, started: str, host: str, pid: int) -> None:
        self._folder = folder
        time = started.translate({ord(mark): None for mark in "-:"})[:15]
        self.name = f"{FOLDER}/{time}-{host}-{pid}.jsonl"
        self._lines: list[str] = []

    def add(self, time: str, state: str, measurements: Mapping[str, Any]) -> None:
        """Writes one line more.

        Args:
            time: now, in UTC.
            state: of the run.
            measurements: how far the command is, by name.

        Raises:
            OSError: the storage failed.
        """
        self._lines.append(json.dumps({"time": time, "state": state, **measurements}))
        del self._lines[:-MAX_LINES]
        self._folder.write(self.name, "".join(f"{line}\n" for line in self._lines).encode())


def read_latest_lines(folder: RunFolder) -> list[dict[str, Any]]:
    """The lines of the command that began last; none where no command has written any.

    Raises:
        OSError: the storage failed.
        ValueError: a line is no JSON.
    """
    files = [
        file
        for file in (folder.location / FOLDER).list_children()
        if file.name.endswith(".jsonl") and not file.name.startswith(".")
    ]
    if not files:
        return []
    latest = max(files, key=lambda file: file.name)
    return [json.loads(line) for line in latest.read().splitlines()]


def measure_recent_speed(lines: list[dict[str, Any]], counted: str) -> float | None:
    """How many of what is counted were done a second over the last ten minutes of some lines.

    Args:
        lines: of one command.
        counted: the name of a count in them that only grows.

    Returns:
        None where there are no two lines that say it.
    """
    points = [
        (datetime.datetime.fromisoformat(line["time"]), line[counted])
        for line in lines
        if line.get(counted) is not None
    ]
    if len(points) < 2:
        return None
    last_time, last = points[-1]
    recent = [
        point for point in points[:-1] if (last_time - point[0]).total_seconds() <= RECENT_S
    ] or points[-2:-1]
    seconds = (last_time - recent[0][0]).total_seconds()
    return (last - recent[0][1]) / seconds if seconds > 0 else None
