"""How every job starts and ends: flags in, one message and one exit status out."""

import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable
from typing import TextIO, TypeVar

from c3l_ray import stopping
from c3l_ray.errors import C3LError, Stopped
from c3l_ray.flags import list_required
from c3l_ray.stopping import FOLLOWING
from jobs.earlier_settings import describe_flag, parse_flags, takes_earlier_settings

Config = TypeVar("Config")

CLEAR_LINE = "\r\033[K"
RESUME = "the same command resumes"
AFRESH = "run the same command again, which begins afresh"


def main(
    config: type[Config],
    run: Callable[[Config], None],
    description: str | None,
    program: str,
    *,
    again: str = RESUME,
) -> None:
    """Parses the flags, runs the job, and ends the process with its exit status.

    Args:
        config: class of the flags.
        run: the job, which prints what it reports.
        description: shown by --help, in lines of at most 80 columns.
        program: the command, as the user types it.
        again: what the same command does after an interruption.
    """
    configure_process()

    def parse_and_run() -> None:
        if {"-h", "--help"} & set(sys.argv[1:]):
            print(description)  # tyro would join its lines and not wrap them again
            if takes_earlier_settings(config):  # whose required flags lie in several groups
                print(f"Required: {', '.join(list_required(config))}.\n")
                print(describe_flag(config, program), end="\n\n")
        run(parse_flags(config, sys.argv[1:], program))

    run_to_exit(parse_and_run, again)


def configure_process() -> None:
    """Sets what every job wants of its process, and shows what the library logs, on stderr."""
    # One torch thread a process: several busy ones on shared cores spin at every barrier.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    messages = TerminalHandler() if sys.stderr.isatty() else logging.StreamHandler()  # to stderr
    messages.setFormatter(logging.Formatter("%(message)s"))
    library = logging.getLogger("c3l_ray")
    library.handlers = [messages]
    library.setLevel(logging.INFO)
    library.propagate = False


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Shows log records on a terminal, those of progress in place: the next one replaces them."""

    _ends_on_progress = False

    def emit(self, record: logging.LogRecord) -> None:
        is_progress = getattr(record, "progress", False)
        text = self.format(record)
        if is_progress:  # a longer one would wrap, and its first line stay
            text = text[: shutil.get_terminal_size().columns - 1]
        start = CLEAR_LINE if self._ends_on_progress else ""
        self.stream.write(f"{start}{text}" + ("" if is_progress else "\n"))
        self.flush()
        self._ends_on_progress = is_progress

    def end_line(self) -> None:
        """Ends a line of progress, so that what others print begins a line."""
        if self._ends_on_progress:
            self.stream.write("\n")
            self.flush()
            self._ends_on_progress = False


def end_progress_line() -> None:
    """Ends a line of progress on the terminal, if there is one."""
    for handler in logging.getLogger("c3l_ray").handlers:
        if isinstance(handler, TerminalHandler):
            handler.end_line()


def run_to_exit(run: Callable[[], None], again: str = RESUME) -> None:
    """Runs a job; where it fails or is stopped, prints one message and ends with its exit status.

    Args:
        run: the job.
        again: what the same command does after an interruption.
    """
    with stopping.handled():
        try:
            try:
                run()
            finally:
                end_progress_line()
        except C3LError as error:
            print(f"error: {error}", file=sys.stderr)
            _end(error.exit_status)
        except BrokenPipeError:  # whoever reads our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _end(1)
        except Exception as error:  # a full disk, a folder gone, storage out of reach
            from c3l_ray import storage  # late: --help does not wait for its libraries

            if not storage.is_fault(error):
                raise
            text = (
                _describe_os_error(error)
                if isinstance(error, OSError)
                else storage.describe_fault(error)
            )
            print(f"error: {text}; {again}", file=sys.stderr)
            _end(1)
        except Stopped as stop:
            print(f"{stop}; {again}", file=sys.stderr)
            _end(stop.exit_status)
        except KeyboardInterrupt:
            print(f"stopped; {again}", file=sys.stderr)
            _end(130)


def _end(exit_status: int) -> None:
    """Ends the process; at once where a thread still follows work on the cluster.

    Python would end beside that thread, and Ray then aborts with a native trace. The processes of a
    cluster that this job has started end with it all the same.
    """
    if any(thread.name == FOLLOWING for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_status)
    sys.exit(exit_status)


def _describe_os_error(error: OSError) -> str:
    """An error of the operating system with the path that it is about."""
    if error.filename is None:
        return f"the system refused an operation: {error}"
    return f"{error.filename}: {error.strerror or error}"
