"""Rates of the steady state, from the moments at which images were done.

A rate is taken between two moments at which images were done, a tenth and nine tenths of them.
Images that are half done at either moment cancel out, so that arms which note every image and arms
which note a unit or a batch at once can be compared.
"""

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

FILL_SHARE, STEADY_SHARE = 0.1, 0.9
"""Of the images: the rate is taken from the first to the second; what follows is the drain."""

Moments = list[tuple[float, int]]
"""Times in seconds, and how many images were done at each."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Some seconds of the steady state, and the images that were done in them."""

    begin: float
    end: float
    images: int

    @property
    def seconds(self) -> float:
        return max(self.end - self.begin, 1e-3)


@dataclass(frozen=True, kw_only=True)
class Events:
    """What was noted of an arm; times are seconds since 1970.

    Attributes:
        started, ended: when its process was.
        cpu: CPU seconds of it and its children until then, at moments.
        begin: when its work began, after its boot.
        done: when images were done.
        handed: when all requests had been handed over, where no reply is taken before.
        prepares_beside: whether the engine worked while requests were handed over.
        generated: when the turns of each image were there, where they are scored afterwards.
        tokens, prompt_tokens: of all replies and prompts, 0 where they are not known.
    """

    started: float
    ended: float
    cpu: list[tuple[float, float]]
    begin: float
    done: Moments
    handed: float | None = None
    prepares_beside: bool = False
    generated: list[float] = field(default_factory=list)
    tokens: int = 0
    prompt_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """How an arm did.

    Attributes:
        images: done.
        tokens, prompt_tokens: as of the events.
        wall_s: of its process, from start to end.
        boot_s: until its work began.
        drain_s: from STEADY_SHARE of the images to the last.
        steady_rate: images per second.
        step_rate: the same, without the seconds in which requests were prepared beforehand.
        cpu_ms: CPU milliseconds of all its processes for an image.
        window: in which the rates were taken.
        window_cpu_s: CPU seconds of all its processes in the window.
        generated: images whose turns were made in the window, where they are scored afterwards.
    """

    images: int
    tokens: int
    prompt_tokens: int
    wall_s: float
    boot_s: float
    drain_s: float
    steady_rate: float
    step_rate: float
    cpu_ms: float
    window: Window
    window_cpu_s: float
    generated: int = 0


def find_window(begin: float, done: Moments) -> Window:
    """The steady state; all of the work, where its images were done at one moment.

    Args:
        begin: when the work began.
        done: when images were done, in order.
    """
    merged = [
        (moment, sum(images for _, images in group))
        for moment, group in groupby(done, key=lambda event: event[0])
    ]
    total, so_far = sum(images for _, images in merged), 0
    first: tuple[float, int] | None = None
    for moment, images in merged:
        so_far += images
        if first is None and so_far >= FILL_SHARE * total:
            first = (moment, so_far)
        if so_far >= STEADY_SHARE * total:
            break
    assert first is not None
    if moment == first[0]:
        return Window(begin=begin, end=moment, images=so_far)
    return Window(begin=first[0], end=moment, images=so_far - first[1])


def measure(events: Events) -> Measurement:
    """What the events of an arm come to."""
    done = sorted(events.done)
    num_images = sum(images for _, images in done)
    window = find_window(events.begin, done)
    moments, seconds = zip(*events.cpu, strict=True)

    def cpu_between(begin: float, end: float) -> float:
        before, after = np.interp([begin, end], moments, seconds)
        return float(after - before)

    step_s = image_s = window.seconds / window.images
    cpu_s = cpu_between(window.begin, window.end) / window.images
    if events.handed is not None:
        prepared_s = (events.handed - events.begin) / num_images
        if not events.prepares_beside:
            image_s += prepared_s
            cpu_s += cpu_between(events.begin, events.handed) / num_images
        elif window.begin <= events.handed:  # replies waited until all requests were handed over
            so_far = sum(images for moment, images in done if moment <= window.end)
            is_waiting = window.end <= events.handed + 0.5
            worked_s = 0.0 if is_waiting else (window.end - events.begin) / so_far
            step_s = image_s = max(prepared_s, worked_s)
            cpu_s = cpu_between(events.begin, done[-1][0]) / num_images
    generated = sorted(events.generated)
    return Measurement(
        images=num_images,
        tokens=events.tokens,
        prompt_tokens=events.prompt_tokens,
        wall_s=events.ended - events.started,
        boot_s=events.begin - events.started,
        drain_s=done[-1][0] - window.end,
        steady_rate=1 / image_s,
        step_rate=1 / step_s,
        cpu_ms=1000 * cpu_s,
        window=window,
        window_cpu_s=cpu_between(window.begin, window.end),
        generated=bisect_right(generated, window.end) - bisect_right(generated, window.begin),
    )


def compare_with_parts(
    scored: Measurement, bare: Measurement, score: Measurement, *, is_shared: bool
) -> dict[str, float]:
    """What the parts alone would have needed for the work of a scored job's window, over that.

    Turns may be made ahead of the scorer, before the window or in it; therefore the images of each
    stage are counted apart.

    Args:
        scored: the job that generates and scores.
        bare: generation alone.
        score: scoring alone.
        is_shared: whether the stages share a device, so that their seconds add up; else each has
            one of its own, and the slower stage is the limit.
    """
    parts_s = (scored.generated / bare.steady_rate, scored.window.images / score.steady_rate)
    parts_cpu_ms = scored.generated * bare.cpu_ms + scored.window.images * score.cpu_ms
    return {
        "scored_over_parts": (sum if is_shared else max)(parts_s) / scored.window.seconds,
        "scored_over_parts_cpu": parts_cpu_ms / max(1000 * scored.window_cpu_s, 1e-3),
    }
