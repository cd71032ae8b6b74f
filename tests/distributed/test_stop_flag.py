"""What is followed on the cluster ends with it, with a signal, or with the time of grace."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from c3l_ray import stopping
from c3l_ray.distributed.stop_flag import StopFlag, follow
from c3l_ray.errors import Stopped

GRACE_S = 0.5


class LocalFlag(StopFlag):
    """A flag of this process."""

    def put_up(self) -> None:
        is_up.set()

    def is_up(self) -> bool:
        return is_up.is_set()


is_up = threading.Event()


@pytest.fixture
def flag() -> LocalFlag:
    is_up.clear()
    return LocalFlag()


def test_results_come_as_they_are(flag: LocalFlag) -> None:
    assert list(follow(iter([1, 2, 3]), flag, GRACE_S)) == [1, 2, 3]
    assert not flag.is_up()


def test_what_ends_the_work_is_raised_here(flag: LocalFlag) -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise ValueError("the cluster is gone")

    came = []
    with pytest.raises(ValueError, match="the cluster is gone"):
        for result in follow(fail(), flag, GRACE_S):
            came.append(result)
    assert came == [1]


def test_after_a_signal_what_is_under_way_still_comes(flag: LocalFlag) -> None:
    def work() -> Iterator[int]:
        yield 1
        while not flag.is_up():
            time.sleep(0.01)
        yield 2

    came = []
    with pytest.raises(Stopped) as raised, stopping.handled():
        for result in follow(work(), flag, 60):
            came.append(result)
            if result == 1:
                os.kill(os.getpid(), signal.SIGTERM)
    assert came == [1, 2] and raised.value.signal is signal.SIGTERM


def test_when_its_time_is_up_what_is_under_way_still_comes(flag: LocalFlag) -> None:
    def work() -> Iterator[int]:
        yield 1
        while not flag.is_up():
            time.sleep(0.01)
        yield 2

    came = []
    with pytest.raises(Stopped, match="--max-hours 2") as raised, stopping.handled():
        stopping.bound_time(0.3, "--max-hours 2")
        for result in follow(work(), flag, 60):
            came.append(result)
    assert came == [1, 2] and raised.value.exit_status == 5


def test_the_time_of_grace_ends(flag: LocalFlag) -> None:
    is_left = threading.Event()

    def work() -> Iterator[int]:
        yield 1
        is_left.wait(30)

    started = time.monotonic()
    with pytest.raises(Stopped), stopping.handled():
        for _ in follow(work(), flag, GRACE_S):
            os.kill(os.getpid(), signal.SIGTERM)
    is_left.set()
    assert flag.is_up() and GRACE_S <= time.monotonic() - started < 10


def test_who_wants_no_more_stops_the_work(flag: LocalFlag) -> None:
    followed = follow(iter([1, 2, 3]), flag, GRACE_S)
    assert next(followed) == 1
    followed.close()
    assert flag.is_up()
