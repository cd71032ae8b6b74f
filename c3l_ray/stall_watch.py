"""A watch over a process that generates or scores: where its work hangs, the process ends.

A GPU that no longer replies, or a lock that nobody opens, raises nothing, and a job would wait for
it for ever. The work gives signs of life, a reply or a batch of scores each. Where none comes for
long although there is work, the process ends, and what it worked on is treated as after any death.
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

log = logging.getLogger(__name__)


class _LatestSign:
    """When this process gave its latest sign of life, by the monotonic clock."""

    at_s = 0.0


def give_sign() -> None:
    """Says that the work of this process goes on."""
    _LatestSign.at_s = time.monotonic()


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
