"""What can go wrong, drawn as a tree:

    C3LError
    |- PreflightError   before the start: a bad flag, a missing model, an output of another origin
    |- UnusableImage    one row: becomes its status and error, never leaves an actor
    |- RefusedRequest   one row: the engine will not take this image or prompt
    |- EngineFailure    the process: it ends, and Ray replaces it within bounds
    |- ScorerFailure    the process: the same
    |- TooManyFailures  the run failed more images than --max-failed-share allows
    `- OverBudget       a plan takes more than --max-hours or --max-price allow
    KeyboardInterrupt
    `- Stopped          a signal asked the job to end, or its time is up; no `except Exception`
                        takes it for a fault

Each maps to one exit status (`exit_status`); nothing else that we raise reaches the user.
"""

import re
import signal


class C3LError(Exception):
    """The root. `exit_status` is what a job that ends with it returns to the shell."""

    exit_status = 1


class PreflightError(C3LError):
    """The job cannot start as it was asked to; the message names the field and the value."""

    exit_status = 2


class UnusableImage(C3LError):
    """An image that cannot be used.

    Args:
        reason: one countable word, such as `undecodable`.
        detail: what was wrong with this image.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")


class RefusedRequest(C3LError):
    """The engine refuses a request, such as an image with more tokens than the context holds."""


class EngineFailure(C3LError):
    """The generation engine is gone; only a new process brings it back."""


class ScorerFailure(C3LError):
    """The scorer fails on what it could compute when it started, as on a GPU after a fault."""


class TooManyFailures(C3LError):
    """More images failed than the user allows; what was written stays."""

    exit_status = 4


class OverBudget(C3LError):
    """A planned run takes more hours, or costs more, than the user allows; nothing was begun."""

    exit_status = 3


class Stopped(KeyboardInterrupt):
    """A signal asked the job to end, or its time is up; what is committed stays.

    Args:
        signal_: that came.
        detail: what is committed, as a sentence's part; empty where nobody has counted.
        bound: the flag whose time is up, and its value; None where somebody sent the signal.
    """

    def __init__(
        self, signal_: signal.Signals, detail: str = "", *, bound: str | None = None
    ) -> None:
        self.signal, self.bound = signal_, bound
        self.exit_status = TIME_UP if bound else 128 + signal_
        super().__init__(f"stopped by {self.cause}{'; ' if detail else ''}{detail}")

    @property
    def cause(self) -> str:
        """What stopped the job, as its user knows it."""
        return self.bound or ("Ctrl-C" if self.signal == signal.SIGINT else self.signal.name)

    def with_detail(self, detail: str) -> "Stopped":
        """The same stop, with what is committed."""
        return Stopped(self.signal, detail, bound=self.bound)


TIME_UP = 5
"""Exit status of a job that --max-hours or --max-price has stopped."""

_CHAIN = re.compile(
    r"^(?:The above exception was the direct cause of the following exception:|"
    r"During handling of the above exception, another exception occurred:)$",
    re.MULTILINE,
)
_RAYS_WRAPPER = "ray.exceptions.UserCodeException: "
_FRAME = re.compile(r"^\s+File \".*\", line \d+")


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


def last_line(error: Exception) -> str:
    """The last exception in an error's text, in its own words, on one line.

    Ray wraps a cause in the traces of its processes. The cause comes last, but for Ray Data's
    wrapper, which is its advice on retries.
    """
    traces = _CHAIN.split(str(error))
    if len(traces) > 1 and _RAYS_WRAPPER in traces[-1]:
        traces.pop()
    lines = traces[-1].splitlines()
    frames = [number for number, line in enumerate(lines) if _FRAME.match(line)]
    said = [line.strip() for line in lines if line.strip()]
    if not frames:
        not_advice = [line for line in said if not line.startswith("To ")]
        return (not_advice or said or [type(error).__name__])[-1]
    # A frame has indented lines of code after it; then the exception speaks, in one line or more.
    after = lines[frames[-1] + 1 :]
    while after and (after[0].startswith(" ") or not after[0].strip()):
        after.pop(0)
    words = " ".join(line.strip() for line in after if line.strip())
    return words or said[-1]
