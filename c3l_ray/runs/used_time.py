"""How long the commands of a run have worked, as run.json and the lines of their progress say."""

import datetime
import json
import os
import socket

from c3l_ray.runs.folder import REPORT, RunFolder
from c3l_ray.runs.progress_log import ProgressLog
from c3l_ray.runs.state import Command


def measure_earlier_commands(folder: RunFolder) -> float:
    """Seconds that the commands of a run have worked together, without this process's own.

    One that was killed has worked until the last line of its progress, or where it has none until
    the next command began.

    Args:
        folder: of the run, in whose run.json this command is noted.

    Raises:
        OSError: the storage failed.
    """
    commands: list[Command] = (folder.read_json(REPORT) or {}).get("commands", [])
    commands = sorted(commands, key=lambda command: command["started"])
    mine = socket.gethostname(), os.getpid()
    if commands and (commands[-1]["host"], commands[-1]["pid"]) == mine:
        now_s = _read_time(commands.pop()["started"])
    else:
        now_s = datetime.datetime.now(datetime.UTC).timestamp()
    used_s = 0.0
    for number, command in enumerate(commands):
        next_s = _read_time(commands[number + 1]["started"]) if commands[number + 1 :] else now_s
        ended = command["ended"] or _find_last_line(folder, command)
        end_s = next_s if ended is None else _read_time(ended)
        used_s += max(0.0, end_s - _read_time(command["started"]))
    return used_s


def _find_last_line(folder: RunFolder, command: Command) -> str | None:
    """The time of the last line of a command's progress, or None where it has none."""
    name = ProgressLog(
        folder, started=command["started"], host=command["host"], pid=command["pid"]
    ).name
    try:
        lines = (folder.location / name).read().splitlines()
    except FileNotFoundError:
        return None
    return str(json.loads(lines[-1])["time"]) if lines else None


def _read_time(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()
