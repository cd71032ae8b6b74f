"""How a job ends: one message and one exit status, whatever it ended with."""

import io
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass

import pytest
from botocore.exceptions import EndpointConnectionError

from c3l_ray.errors import C3LError, OverBudget, PreflightError, Stopped, TooManyFailures
from c3l_ray.runs.state import PROGRESS
from jobs import command_line
from jobs.command_line import AFRESH, main


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


@pytest.mark.parametrize(
    ("end", "status", "message"),
    [
        (PreflightError("--input x: does not exist"), 2, "error: --input x: does not exist"),
        (TooManyFailures("4 of 17 images failed"), 4, "error: 4 of 17 images failed"),
        (C3LError("the job stopped"), 1, "error: the job stopped"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (
            FileNotFoundError(2, "No such file or directory", "/data/x.tar"),
            1,
            "error: /data/x.tar: No such file or directory; the same command resumes",
        ),
        (
            EndpointConnectionError(endpoint_url="http://me:planted@store:9000/b/k"),
            1,
            "error: the storage failed: Could not connect to the endpoint URL: "
            '"http://store:9000/b/k"; the same command resumes',
        ),
        (KeyboardInterrupt(), 130, "stopped; the same command resumes"),
        (
            Stopped(signal.SIGTERM, "5 of 9 images are committed in out"),
            143,
            "stopped by SIGTERM; 5 of 9 images are committed in out; the same command resumes",
        ),
        (
            Stopped(signal.SIGALRM, "5 of 9 images are committed in out", bound="--max-hours 2"),
            5,
            "stopped by --max-hours 2; 5 of 9 images are committed in out; the same command",
        ),
        (OverBudget("the plan is over budget"), 3, "error: the plan is over budget"),
        (Stopped(signal.SIGINT), 130, "stopped by Ctrl-C; the same command resumes"),
    ],
)
def test_an_end_is_a_message_and_a_status(
    end: BaseException,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(_: Config) -> None:
        raise end

    monkeypatch.setattr(sys, "argv", ["job"])
    with pytest.raises(SystemExit) as raised:
        main(Config, run, "A job.", "python -m jobs.job")
    assert raised.value.code == status
    assert message in capsys.readouterr().err


def test_a_job_that_finishes_just_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["job"])
    main(Config, lambda _: None, "A job.", "python -m jobs.job")


def test_a_job_logs_to_stderr_and_prints_to_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: Config) -> None:
        logging.getLogger("c3l_ray.workflows").info("3 units")
        print("finished")

    monkeypatch.setattr(sys, "argv", ["job"])
    main(Config, run, "A job.", "python -m jobs.job")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("finished\n", "3 units\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_progress_in_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "argv", ["job"])
    monkeypatch.setenv("COLUMNS", "20")
    log = logging.getLogger("c3l_ray.workflows")

    def run(_: Config) -> None:
        log.info("starting")
        log.info("progress 1/9 and more than fits", extra=PROGRESS)
        log.info("progress 2/9", extra=PROGRESS)
        log.info("note: slow")
        log.info("progress 3/9", extra=PROGRESS)
        raise C3LError("the job stopped")

    with pytest.raises(SystemExit):
        main(Config, run, "A job.", "python -m jobs.job")
    clear = command_line.CLEAR_LINE
    assert terminal.getvalue() == (
        f"starting\nprogress 1/9 and mo{clear}progress 2/9{clear}note: slow\n"
        "progress 3/9\nerror: the job stopped\n"
    )


def test_a_signal_to_a_job_that_keeps_nothing_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: Config) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(sys, "argv", ["job"])
    with pytest.raises(SystemExit) as raised:
        main(Config, run, "A job.", "python -m jobs.job", again=AFRESH)
    assert raised.value.code == 143
    message = "stopped by SIGTERM; run the same command again, which begins afresh\n"
    assert capsys.readouterr().err == message
