"""SIGTERM and Ctrl-C as an end in order: the first one is noted, a second one ends the process.

The first signal raises Stopped in the main thread, as Ctrl-C does. Within `postponed` it is only
noted, and the work asks `requested` whether it is to end.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from c3l_ray.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE_S = 25.0
"""Kubernetes kills a process 30 s after its SIGTERM; the rest is for the report and the end."""
FOLLOWING = "follows work on the cluster"
"""Name of the thread that does, while the main thread waits for a signal."""
SAME_SIGNAL_S = 0.3
"""A signal that comes again so soon is the same one: `timeout`, for one, sends it to the process
and then to its group."""


class _Noted:
    """What has come so far."""

    number: signal.Signals | None = None
    at_s = 0.0
    postponements = 0


def requested() -> signal.Signals | None:
    """The signal that asked this process to end, or None."""
    return _Noted.number


@contextmanager
def handled() -> Iterator[None]:
    """Handles the signals in this way; only the main thread may begin that."""
    with kept():
        for number in SIGNALS:
            signal.signal(number, _note)
        try:
            yield
        finally:
            _Noted.number, _Noted.postponements = None, 0


@contextmanager
def kept() -> Iterator[None]:
    """Puts the handlers back that code within, such as a library's start, replaces."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def postponed() -> Iterator[None]:
    """Within it the first signal is noted; what was not acted on then is raised at the end.

    Raises:
        Stopped: a signal came.
    """
    _Noted.postponements += 1
    try:
        yield
    finally:
        _Noted.postponements -= 1
    if _Noted.number is not None and not _Noted.postponements:
        raise Stopped(_Noted.number)


def _note(number: int, _: FrameType | None) -> None:
    came = signal.Signals(number)
    if _Noted.number is not None:
        if came == _Noted.number and time.monotonic() - _Noted.at_s < SAME_SIGNAL_S:
            return
        os.write(2, f"stopped at once by a second signal, {came.name}\n".encode())
        os._exit(Stopped(came).exit_status)
    _Noted.number, _Noted.at_s = came, time.monotonic()
    if not _Noted.postponements:
        raise Stopped(came)
