"""A process that has work and gives no sign of life is ended; no other one is."""

import logging
import threading
import time

import pytest

from c3l_ray.stall_watch import StallWatch, bounded_boot, give_sign

TIMEOUT_S = 0.5


@pytest.fixture
def ended() -> threading.Event:
    return threading.Event()


def test_silent_work_ends_the_process(
    ended: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    watch = StallWatch("scoring", TIMEOUT_S, ended.set)
    with caplog.at_level(logging.ERROR), watch.working():
        assert ended.wait(20)
    assert "the scoring process hangs: no reply and no score for" in caplog.text


def test_a_process_without_work_may_be_silent(ended: threading.Event) -> None:
    watch = StallWatch("scoring", TIMEOUT_S, ended.set)
    with watch.working():
        pass
    time.sleep(3 * TIMEOUT_S)
    assert not ended.is_set()


def test_work_that_gives_signs_goes_on(ended: threading.Event) -> None:
    timeout_s = 8 * TIMEOUT_S  # a busy machine may let a sign wait
    watch = StallWatch("scoring", timeout_s, ended.set)
    started = time.monotonic()
    with watch.working():
        while time.monotonic() - started < 1.2 * timeout_s:
            time.sleep(0.1)
            give_sign()
    assert not ended.is_set()


def test_no_timeout_is_no_watch(ended: threading.Event) -> None:
    before = threading.active_count()
    StallWatch("scoring", 0, ended.set)
    assert threading.active_count() == before


def test_a_boot_that_hangs_ends_the_process(
    ended: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), bounded_boot("generating", TIMEOUT_S, ended.set):
        assert ended.wait(20)
    assert "the generating process has not loaded its model for" in caplog.text


def test_a_boot_that_ends_in_time_or_has_none_goes_on(ended: threading.Event) -> None:
    with bounded_boot("generating", TIMEOUT_S, ended.set):
        pass
    with bounded_boot("generating", 0, ended.set):
        time.sleep(2 * TIMEOUT_S)
    with pytest.raises(ValueError, match="no such model"), bounded_boot("a", TIMEOUT_S, ended.set):
        raise ValueError("no such model")
    time.sleep(2 * TIMEOUT_S)
    assert not ended.is_set()
