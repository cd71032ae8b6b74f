"""What a job tells Prometheus, through Ray: every node of a cluster serves it to be scraped.

Ray puts `ray_` before a name, and `_total` behind that of a counter (`exported_names`). The job's
own process counts what is committed; a generating process tells of its engine. `run` is the output
folder, so that jobs of one cluster can be told apart.

Of a histogram, Ray's nodes keep buckets alone, and make up its sum from their middles: what is
summed has a counter. A gauge that is not told again within two reports is dropped.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from ray.util.metrics import Counter, Gauge, Histogram

from c3l_ray.runs.commit import Manifest
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.retry import Retry

EXPORT_EVERY_S = 10.0

COUNTERS = {
    "c3l_ray_units": ("Units that were committed.", ()),
    "c3l_ray_images": ("Images that were committed, by status.", ("status",)),
    "c3l_ray_failed_images": ("Images that were committed as failed, by reason.", ("reason",)),
    "c3l_ray_turns": ("Turns that were committed, by status.", ("status",)),
    "c3l_ray_stage_seconds": ("Seconds that units spent in a stage.", ("stage",)),
    "c3l_ray_generated_tokens": ("Tokens that engines generated for these turns.", ()),
    "c3l_ray_prompt_tokens": ("Tokens of the prompts that an engine has answered.", ("process",)),
    "c3l_ray_cached_prompt_tokens": (
        "Those of them that the engine's cache of prefixes held.",
        ("process",),
    ),
}
GAUGES = {
    "c3l_ray_images_left": ("Images of the input that are not committed yet.", ()),
    "c3l_ray_engine_requests": (
        "Requests that an engine has taken and not answered.",
        ("process",),
    ),
}
HISTOGRAMS = {
    "c3l_ray_unit_seconds": (
        "Seconds that a stage took for a unit.",
        ("stage",),
        (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0),
    )
}
"""Metrics by name: what they are, and their tags beside `run`; of histograms the bounds, too."""


class EngineLoad(Protocol):
    """What an engine counts: see `inference.engine_protocol.EngineLoad`."""

    requests: int
    prompt_tokens: int
    cached_tokens: int


def exported_names() -> set[str]:
    """The names under which Prometheus finds the metrics."""
    return {
        *(f"ray_{name}_total" for name in COUNTERS),
        *(f"ray_{name}" for name in GAUGES),
        *(f"ray_{name}_bucket" for name in HISTOGRAMS),
    }


class JobMetrics:
    """The metrics of a job's own process.

    Args:
        run: its output folder.
    """

    def __init__(self, run: str) -> None:
        self._metrics = _Metrics(run)

    def count_manifests(
        self, manifests: Iterable[Manifest], num_images: int, retry: Retry | None = None
    ) -> Iterator[Manifest]:
        """Counts manifests as they come, and passes them on.

        Args:
            manifests: of units that this command does.
            num_images: of all of them, that it does.
            retry: of which the units are, where only failed rows of them are done.
        """
        num_left = [num_images]
        with _told_again(lambda: self._metrics.set("c3l_ray_images_left", num_left[0])):
            for manifest in manifests:
                counts = count_new(manifest, retry)
                self._count(counts)
                num_left[0] -= sum(counts.status.values())
                self._metrics.set("c3l_ray_images_left", num_left[0])
                yield manifest

    def _count(self, counts: Counts) -> None:
        self._metrics.count("c3l_ray_units", 1)
        for name, of_value, tag in (
            ("c3l_ray_images", counts.status, "status"),
            ("c3l_ray_failed_images", counts.reasons, "reason"),
            ("c3l_ray_turns", counts.turn_status, "status"),
            ("c3l_ray_stage_seconds", counts.seconds, "stage"),
        ):
            for value, count in of_value.items():
                self._metrics.count(name, count, {tag: value})
        self._metrics.count("c3l_ray_generated_tokens", counts.tokens)
        for stage, seconds in counts.seconds.items():
            self._metrics.observe("c3l_ray_unit_seconds", seconds, {"stage": stage})


def count_new(manifest: Manifest, retry: Retry | None) -> Counts:
    """What a manifest counts that was not done before.

    Args:
        manifest: of a unit.
        retry: of which it is; its rows that had not failed for one of the reasons are not new.
    """
    counts = manifest.counts
    if retry is None:
        return counts
    earlier = retry.manifests[manifest.unit].counts
    kept_reasons = {
        reason: count for reason, count in earlier.reasons.items() if reason not in retry.reasons
    }
    kept_status = {**earlier.status, "failed": sum(kept_reasons.values())}
    return Counts(
        status=_subtract(counts.status, kept_status),
        reasons=_subtract(counts.reasons, kept_reasons),
        turn_status=_subtract(counts.turn_status, earlier.turn_status),
        tokens=max(0, counts.tokens - earlier.tokens),
        seconds=_subtract(counts.seconds, earlier.seconds),
    )


class EngineMetrics:
    """The metrics of a generating process, which a thread of its own exports.

    Args:
        run: its job's output folder.
        load: of its engine.
    """

    def __init__(self, run: str, load: EngineLoad) -> None:
        self._metrics = _Metrics(run)
        self._load = load
        self._tags = {"process": f"{os.uname().nodename}-{os.getpid()}"}
        self._exported = {"prompt": 0, "cached_prompt": 0}
        threading.Thread(target=_repeat, args=(self.export, threading.Event()), daemon=True).start()

    def export(self) -> None:
        """Tells what the engine counts now."""
        now = {"prompt": self._load.prompt_tokens, "cached_prompt": self._load.cached_tokens}
        self._metrics.set("c3l_ray_engine_requests", self._load.requests, self._tags)
        for name, tokens in now.items():
            new = tokens - self._exported[name]
            self._metrics.count(f"c3l_ray_{name}_tokens", new, self._tags)
        self._exported = now


@contextmanager
def _told_again(tell: Callable[[], object]) -> Iterator[None]:
    """Tells something now and every ten seconds, until the block ends."""
    tell()
    ended = threading.Event()
    threading.Thread(target=_repeat, args=(tell, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _repeat(tell: Callable[[], object], ended: threading.Event) -> None:
    while not ended.wait(EXPORT_EVERY_S):
        tell()


class _Metrics:
    """Ray's metrics by name, with the tag `run`."""

    def __init__(self, run: str) -> None:
        self._run = {"run": run}
        self._metrics: dict[str, Any] = {
            name: kind(name, description=description, tag_keys=("run", *tags))
            for kind, specs in ((Counter, COUNTERS), (Gauge, GAUGES))
            for name, (description, tags) in specs.items()
        }
        for name, (description, tags, bounds) in HISTOGRAMS.items():
            self._metrics[name] = Histogram(
                name, description=description, boundaries=list(bounds), tag_keys=("run", *tags)
            )

    def count(self, name: str, number: float, tags: Mapping[str, str] | None = None) -> None:
        if number > 0:  # Ray refuses to count nothing
            self._metrics[name].inc(number, {**self._run, **(tags or {})})

    def set(self, name: str, number: float, tags: Mapping[str, str] | None = None) -> None:
        self._metrics[name].set(number, {**self._run, **(tags or {})})

    def observe(self, name: str, number: float, tags: Mapping[str, str]) -> None:
        self._metrics[name].observe(number, {**self._run, **tags})


def _subtract(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: number - before.get(name, 0)
        for name, number in now.items()
        if number > before.get(name, 0)
    }
