"""What signals do to a process: the first one ends it in order, a second one at once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from c3l_ray import errors, stopping
from c3l_ray.errors import Stopped

HANGS = """
import time
from c3l_ray import errors, stopping
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
        stop = stopping.requested()
        assert stop is not None and stop.signal is signal.SIGTERM
        passed.append(True)
    assert passed


def test_a_library_that_takes_the_signal_gives_it_back() -> None:
    with stopping.handled():
        ours = signal.getsignal(signal.SIGTERM)
        with stopping.kept():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert signal.getsignal(signal.SIGTERM) is ours


def test_a_process_whose_time_is_up_stops_as_by_a_signal() -> None:
    started = time.monotonic()
    with pytest.raises(Stopped) as raised, stopping.handled():
        stopping.bound_time(3600, "--max-hours 1")
        stopping.bound_time(0.3, "--max-price 5")
        stopping.bound_time(60, "--max-hours 0.1")  # a later end changes nothing
        time.sleep(5)
    assert 0.25 < time.monotonic() - started < 4
    assert str(raised.value) == "stopped by --max-price 5"
    assert raised.value.exit_status == errors.TIME_UP
    assert str(raised.value.with_detail("5 of 9 images")).endswith("--max-price 5; 5 of 9 images")
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0 and stopping.requested() is None


def test_time_is_counted_from_the_begin_of_the_process() -> None:
    with pytest.raises(Stopped, match="--max-hours"), stopping.handled():
        time.sleep(0.3)
        stopping.bound_time(100, "--max-hours 0.03")
        assert 90 < signal.getitimer(signal.ITIMER_REAL)[0] <= 99.7
        stopping.bound_time(0.2, "--max-hours 0.0001")  # is over already
        time.sleep(5)


def test_an_end_by_time_is_postponed_too_and_a_signal_after_it_is_a_first_one() -> None:
    with pytest.raises(Stopped, match="SIGTERM"), stopping.handled(), stopping.postponed():
        stopping.bound_time(0.05, "--max-hours 1")
        time.sleep(0.2)
        stop = stopping.requested()
        assert stop is not None and stop.cause == "--max-hours 1"
        os.kill(os.getpid(), signal.SIGTERM)  # would end the process were it a second one
        assert stopping.requested() is not stop


def test_a_process_that_a_signal_has_stopped_does_not_run_out_of_time() -> None:
    with pytest.raises(Stopped, match="SIGTERM"), stopping.handled(), stopping.postponed():
        stopping.bound_time(0.1, "--max-hours 1")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)


def test_a_bound_of_ages_is_none() -> None:
    with stopping.handled():
        stopping.bound_time(3600 * 1e300, "--max-hours 1e+300")
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 1e8


def test_time_cannot_be_bound_where_nobody_handles_its_end() -> None:
    with pytest.raises(RuntimeError, match="--max-hours 1: who calls this"):
        stopping.bound_time(1, "--max-hours 1")


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
