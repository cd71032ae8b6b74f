"""What signals do to a process: the first one ends it in order, a second one at once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from c3l_ray import stopping
from c3l_ray.errors import Stopped

HANGS = """
import time
from c3l_ray import stopping
with stopping.handled(), stopping.postponed():
    print("begun", flush=True)
    while True:
        time.sleep(0.05)
        if stopping.requested():
            print("noted", flush=True)
            time.sleep(60)
"""


@pytest.mark.parametrize(
    ("number", "status", "message"),
    [(signal.SIGTERM, 143, "stopped by SIGTERM"), (signal.SIGINT, 130, "stopped by Ctrl-C")],
)
def test_the_first_signal_raises_what_no_handler_of_faults_takes(
    number: signal.Signals, status: int, message: str
) -> None:
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    with pytest.raises(Stopped, match=message) as raised, stopping.handled():
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except Exception:  # as a library may have it
            pytest.fail("the signal was taken for a fault")
    assert raised.value.exit_status == status
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before
    assert stopping.requested() is None


def test_a_postponed_signal_is_noted_and_raised_in_the_end_where_nobody_acts_on_it() -> None:
    passed = []
    with pytest.raises(Stopped), stopping.handled(), stopping.postponed():
        assert stopping.requested() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.requested() is signal.SIGTERM
        passed.append(True)
    assert passed


def test_a_library_that_takes_the_signal_gives_it_back() -> None:
    with stopping.handled():
        ours = signal.getsignal(signal.SIGTERM)
        with stopping.kept():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert signal.getsignal(signal.SIGTERM) is ours


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [(signal.SIGTERM, signal.SIGTERM, 143), (signal.SIGTERM, signal.SIGINT, 130)],
)
def test_a_second_signal_ends_the_process_at_once_without_a_trace(
    first: signal.Signals, second: signal.Signals, status: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANGS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        process.send_signal(first)
        assert process.stdout.readline() == "noted\n"
        time.sleep(1.5 * stopping.SAME_SIGNAL_S)
        process.send_signal(second)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == status
    assert errors == f"stopped at once by a second signal, {second.name}\n"
