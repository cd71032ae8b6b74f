"""A watch over a process that generates or scores: where its work hangs, the process ends.

A GPU that no longer replies, or a lock that nobody opens, raises nothing, and a job would wait for
it for ever. The work gives signs of life, a reply or a batch of scores each. Where none comes for
long although there is work, the process ends, and what it worked on is treated as after any death.
A model that is being loaded gives no signs: the time of that is bounded as a whole.
"""

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STALL_TIMEOUT_S = 1800.0
"""A large model on a CPU takes minutes for one reply."""

BOOT_TIMEOUT_S = 3600.0
"""A large model's weights may have to be downloaded first."""

log = logging.getLogger(__name__)


class _LatestSign:
    """When this process gave its latest sign of life, by the monotonic clock."""

    at_s = 0.0


def give_sign() -> None:
    """Says that the work of this process goes on."""
    _LatestSign.at_s = time.monotonic()


@contextmanager
def bounded_boot(
    stage: str, timeout_s: float, end: Callable[[], None] = lambda: os._exit(1)
) -> Iterator[None]:
    """Ends this process where what it does within takes too long, such as to load its model.

    Args:
        stage: of the process, such as "generating", for the message.
        timeout_s: seconds that it may take; 0 never ends it.
        end: ends the process.
    """

    def end_boot() -> None:
        log.error(
            "the %s process has not loaded its model for %.0f s (--boot-timeout); it ends, and "
            "another one is started",
            *(stage, timeout_s),
        )
        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
        end()

    if not timeout_s:
        yield
        return
    timer = threading.Timer(min(timeout_s, threading.TIMEOUT_MAX), end_boot)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class StallWatch:
    """Ends this process where it has work and gives no sign of life.

    Args:
        stage: of the process, such as "generating", for the message.
        timeout_s: seconds without a sign; 0 never ends it.
        end: ends the process.
    """

    def __init__(
        self, stage: str, timeout_s: float, end: Callable[[], None] = lambda: os._exit(1)
    ) -> None:
        self._stage, self._timeout_s, self._end = stage, timeout_s, end
        self._lock = threading.Lock()
        self._num_working = 0
        if timeout_s:
            threading.Thread(target=self._watch, name="stall watch", daemon=True).start()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Marks work under way, which is to give signs."""
        with self._lock:
            give_sign()
            self._num_working += 1
        try:
            yield
        finally:
            with self._lock:
                give_sign()
                self._num_working -= 1

    def _watch(self) -> None:
        while True:
            time.sleep(min(self._timeout_s / 10, 10))
            with self._lock:
                has_work, silence_s = self._num_working, time.monotonic() - _LatestSign.at_s
            if has_work and silence_s > self._timeout_s:
                log.error(
                    "the %s process hangs: no reply and no score for %.0f s (--stall-timeout); it "
                    "ends, and another one takes its work",
                    *(self._stage, silence_s),
                )
                faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
                self._end()
                return
