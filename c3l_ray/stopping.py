"""SIGTERM and Ctrl-C as an end in order: the first one is noted, a second one ends the process.

The first signal raises Stopped in the main thread, as Ctrl-C does. Within `postponed` it is only
noted, and the work asks `requested` whether it is to end. A process whose time is up (`bound_time`)
ends in the same way: an alarm is its first signal.
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
LONGEST_S = 1e9
"""Thirty years: what is bounded by more is not."""
SAME_SIGNAL_S = 0.3
"""A signal that comes again so soon is the same one: `timeout`, for one, sends it to the process
and then to its group."""


class _Noted:
    """What has come so far."""

    stop: Stopped | None = None
    at_s = 0.0
    postponements = 0
    began_s: float | None = None  # when this process began to handle signals
    bound: tuple[float, str] | None = None  # seconds from then on, and the flag that says so


def requested() -> Stopped | None:
    """What asked this process to end, or None."""
    return _Noted.stop


@contextmanager
def handled() -> Iterator[None]:
    """Handles the signals in this way; only the main thread may begin that."""
    with kept():
        for number in SIGNALS:
            signal.signal(number, _note)
        _Noted.began_s = time.monotonic()
        try:
            yield
        finally:
            if _Noted.bound is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
            _Noted.stop, _Noted.postponements = None, 0
            _Noted.began_s, _Noted.bound = None, None


def bound_time(seconds: float, flag: str) -> None:
    """Ends this process in order so many seconds after it began; of several bounds the least.

    Args:
        seconds: since `handled` was entered.
        flag: that bounds the time, with its value, for the message.

    Raises:
        RuntimeError: signals are not handled.
        Stopped: the time is up already.
    """
    if _Noted.began_s is None:
        raise RuntimeError(f"{flag}: who calls this handles signals (stopping.handled)")
    if _Noted.bound is not None and _Noted.bound[0] <= seconds:
        return
    _Noted.bound = seconds, flag
    signal.signal(signal.SIGALRM, _note)
    left = _Noted.began_s + seconds - time.monotonic()
    # 0 would be no alarm at all, and no clock counts for ever.
    signal.setitimer(signal.ITIMER_REAL, min(max(left, 1e-6), LONGEST_S))


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
    if _Noted.stop is not None and not _Noted.postponements:
        raise _Noted.stop


def _note(number: int, _: FrameType | None) -> None:
    came = signal.Signals(number)
    earlier = _Noted.stop
    if came == signal.SIGALRM:
        if earlier is not None or _Noted.bound is None:
            return
        _note_first(Stopped(came, bound=_Noted.bound[1]))
    elif earlier is None:
        _note_first(Stopped(came))
    elif earlier.bound is not None:  # this one is the first that somebody sent
        _Noted.stop, _Noted.at_s = Stopped(came), time.monotonic()
    elif came != earlier.signal or time.monotonic() - _Noted.at_s >= SAME_SIGNAL_S:
        os.write(2, f"stopped at once by a second signal, {came.name}\n".encode())
        os._exit(Stopped(came).exit_status)


def _note_first(stop: Stopped) -> None:
    _Noted.stop, _Noted.at_s = stop, time.monotonic()
    if not _Noted.postponements:
        raise stop
