"""Where a run stands, as run.json says it: its state, and the commands that have worked on it."""

import datetime
import logging
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypedDict

from c3l_ray.errors import Stopped, first_line
from c3l_ray.runs.folder import REPORT, RunFolder
from c3l_ray.runs.progress_log import ProgressLog

UPDATE_EVERY_S = 60.0
TERMINAL_EVERY_S = 5.0
PROGRESS = {"progress": True}
"""`extra` of the log records that say how far a job is: a terminal shows the latest in place."""

State = Literal["running", "stopped", "finished", "failed"]

log = logging.getLogger(__name__)


class Command(TypedDict):
    """A command that has worked on a run.

    Attributes:
        command: as it was typed, quoted for a shell.
        host: on which it ran.
        pid: of its process there.
        started, ended: times in UTC; `ended` is null while it runs, and where it was killed.
        state: as of a run.
    """

    command: str
    host: str
    pid: int
    started: str
    ended: str | None
    state: State


class NotDone(TypedDict):
    """An end of a command that whoever started it was not told of, lest it begins again.

    Attributes:
        status: the exit status that the command ended with.
        reason: what it was, in one line.
        time: in UTC.
    """

    status: int
    reason: str
    time: str


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Where a run stands, as run.json of every job says it.

    Attributes:
        state: "running" while a command works on it, then how the latest one ended; one that was
            killed leaves "running", and an old `updated`.
        error: what the latest command failed with, or which bound on its time stopped it; else
            None.
        started: when the first command began, in UTC.
        updated: when run.json was last written, in UTC.
        commands: that have worked on it, the latest last.
        not_done: how a command of `c3l_ray.kuberay_job` ended that was not to be begun again; None
            once another one has begun.
    """

    state: State = "running"
    error: str | None = None
    started: str | None = None
    updated: str | None = None
    commands: list[Command] = field(default_factory=list)
    not_done: NotDone | None = None


class CommandLog:
    """The commands that have worked on a run, of which this process is one.

    Args:
        folder: of the run.
        origin: that it was claimed for.
    """

    def __init__(self, folder: RunFolder, origin: str) -> None:
        self.folder = folder
        self.origin = origin
        self.mine = Command(
            command=shlex.join(sys.orig_argv),
            host=socket.gethostname(),
            pid=os.getpid(),
            started=now(),
            ended=None,
            state="running",
        )
        self._progress = ProgressLog(
            folder, started=self.mine["started"], host=self.mine["host"], pid=self.mine["pid"]
        )
        self._measure: Callable[[], Mapping[str, Any]] | None = None
        self._ended = threading.Event()
        self._updates: threading.Thread | None = None

    def begin(
        self,
        update: Callable[[], object],
        say: Callable[[], object],
        measure: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Calls these at times until another state than "running" is written.

        Args:
            update: writes run.json, each minute.
            say: logs a line, each minute too, on a terminal each five seconds.
            measure: says how far the command is, for a line of `progress_log` each minute and one
                at the end; nothing where that is not known yet.
        """
        self._measure = measure
        line_every_s = TERMINAL_EVERY_S if sys.stderr.isatty() else UPDATE_EVERY_S

        def follow() -> None:
            last_update = time.monotonic()
            while not self._ended.wait(line_every_s):
                try:
                    say()
                    if time.monotonic() - last_update >= 0.99 * UPDATE_EVERY_S:
                        last_update = time.monotonic()
                        update()
                        self._write_progress("running")
                except Exception as error:  # the storage may be well again in a minute
                    log.warning("run.json could not be written: %s", error)

        self._updates = threading.Thread(target=follow, daemon=True)
        self._updates.start()

    def _end_updates(self, state: State) -> None:
        self._ended.set()
        if self._updates is None:
            return
        self._updates.join()
        self._updates = None
        try:
            self._write_progress(state)
        except Exception as error:  # run.json says it too
            log.warning("the last line of progress could not be written: %s", error)

    def _write_progress(self, state: State) -> None:
        measurements = self._measure() if self._measure is not None else None
        if measurements:
            self.folder.check_owner(self.origin)
            self._progress.add(now(), state, measurements)

    def describe(self, state: State, error: str | None = None) -> dict[str, Any]:
        """The fields of a RunState, with the commands that others have noted since.

        Args:
            state: of the run; another than "running" ends the updates.
            error: that the command failed with.

        Raises:
            OSError: the storage failed.
        """
        if state != "running":
            self._end_updates(state)
            self.mine["ended"] = now()
        noted: list[Command] = (self.folder.read_json(REPORT) or {}).get("commands", [])
        self.mine["state"] = state
        commands = [command for command in noted if _key(command) != _key(self.mine)]
        commands.append(self.mine)
        return {
            "state": state,
            "error": error,
            "started": min(command["started"] for command in commands),
            "updated": now(),
            "commands": commands,
            "not_done": None,
        }

    def note(self, state: State, error: str | None = None) -> None:
        """Writes where an unfinished run stands into run.json, and leaves what else that says.

        Raises:
            C3LError: the folder is now of another origin.
            OSError: the storage failed.
        """
        self.folder.check_owner(self.origin)
        fields = {**self.describe(state, error), "finished": None}
        report = self.folder.read_json(REPORT) or {}
        self.folder.write_json(REPORT, {**report, **fields})


def _key(command: Command) -> tuple[str, int, str]:
    return command["host"], command["pid"], command["started"]


class WriteState(Protocol):
    """Writes where a run stands into run.json."""

    def __call__(self, state: State, error: str | None) -> object: ...


@contextmanager
def note_failure(write: WriteState) -> Iterator[None]:
    """Notes in run.json how a command ends, where an exception ends it.

    Args:
        write: run.json with a state, and with what the command failed with.
    """
    try:
        yield
    except BaseException as error:
        failed = isinstance(error, Exception)  # else a signal, or an exit
        is_time_up = isinstance(error, Stopped) and error.bound is not None
        reason = first_line(error) if failed or is_time_up else None
        try:
            write("failed" if failed else "stopped", reason)
        except Exception as second_error:  # the first one is what the user has to hear of
            log.warning("run.json could not be written: %s", second_error)
        raise


def note_not_done(folder: RunFolder, status: int, reason: str) -> None:
    """Notes in run.json, where there is one, how a command ended that is not begun again.

    Raises:
        OSError: the storage failed.
    """
    report = folder.read_json(REPORT)
    if isinstance(report, dict):
        not_done = NotDone(status=status, reason=reason, time=now())
        folder.write_json(REPORT, {**report, "not_done": not_done})


def now() -> str:
    """The time in UTC, to the second, as reports have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
