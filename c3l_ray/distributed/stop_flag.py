"""How a job on the cluster is stopped: a flag that its processes read, and a time of grace.

What Ray computes is followed from a thread, so that the main thread is free to act on a signal: it
raises the flag, the processes take no more work, and what they finish in the time of grace still
counts.
"""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from ray.experimental import internal_kv

from c3l_ray import stopping

POLL_S = 0.2

Result = TypeVar("Result")

log = logging.getLogger(__name__)


def _make_key() -> str:
    return f"c3l_ray/stop/{uuid.uuid4().hex}"


@dataclass(frozen=True)
class StopFlag:
    """A flag of the cluster: once it is up, no process takes more work.

    Attributes:
        key: under which Ray's own store of keys has it.
    """

    key: str = field(default_factory=_make_key)

    def put_up(self) -> None:
        internal_kv._internal_kv_put(self.key, b"1")

    def is_up(self) -> bool:
        return bool(
            internal_kv._internal_kv_initialized() and internal_kv._internal_kv_exists(self.key)
        )


@dataclass(frozen=True)
class _Failure:
    """What ended the iterator that a thread follows."""

    error: BaseException


class _End:
    """That iterator's own end."""


def follow(
    results: Iterator[Result], flag: StopFlag, grace_s: float
) -> Generator[Result, None, None]:
    """The results of an iterator, until it ends or a signal asks this process to end.

    Args:
        results: of work on the cluster whose processes look at the flag.
        flag: theirs. It is put up at a signal, and where the caller wants no more results.
        grace_s: seconds that the work may go on after a signal.

    Raises:
        Stopped: a signal came, and the work has ended or its time of grace has.
    """
    came: queue.SimpleQueue[Result | _Failure | _End] = queue.SimpleQueue()

    def pass_on() -> None:
        try:
            for result in results:
                came.put(result)
            came.put(_End())
        except BaseException as error:  # raised again where the results are taken
            came.put(_Failure(error))

    threading.Thread(target=pass_on, name=stopping.FOLLOWING, daemon=True).start()
    deadline: float | None = None
    has_ended = False
    try:
        with stopping.postponed():
            while True:
                stop = stopping.requested()
                if stop is not None and deadline is None:
                    log.warning(
                        "%s: no more work is begun; what is under way has %g s to end",
                        *(stop.cause, grace_s),
                    )
                    flag.put_up()
                    deadline = time.monotonic() + grace_s
                if stop is not None and deadline is not None and time.monotonic() > deadline:
                    raise stop
                try:
                    result = came.get(timeout=POLL_S)
                except queue.Empty:
                    continue
                if isinstance(result, _Failure):
                    has_ended = True
                    raise result.error
                if isinstance(result, _End):
                    has_ended = True
                    return
                yield result
    finally:
        if not has_ended:
            flag.put_up()
