"""Training jobs as processes that a test watches, and may kill."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

from tests.jobs.commands import ROOT

TIMEOUT_S = 1500


@contextlib.contextmanager
def start_job(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Ray Train takes a worker's report every so many seconds; here steps are short.
        env={**os.environ, "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"},
    ) as job:
        try:
            yield job
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)


def wait_until(job: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert job.poll() is None, job.stdout and job.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
