"""run.json and the line a minute: what a run has done so far, summed over its manifests."""

import dataclasses
import datetime
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from c3l_ray.config import RecordsConfig
from c3l_ray.data.commit import Manifest, Output
from c3l_ray.data.turns import corrected, sampled
from c3l_ray.methods import ranking
from c3l_ray.schema import SCORE_NAMES

LINE_EVERY_S = 60.0


class Run:
    """The state of one run over an output, across the commands that worked on it.

    Args:
        output: where run.json lies.
        config: of this command.
        facts: what defines a row's content.
        origin: their digest.
    """

    def __init__(
        self, output: Output, config: RecordsConfig, facts: dict[str, Any], origin: str
    ) -> None:
        self.output = output
        self.config = config
        self.facts = facts
        self.origin = origin
        self.seconds: Counter[str] = Counter()
        self.status: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.turns: Counter[str] = Counter()
        self.corrections: Counter[str] = Counter()
        self.correction_tokens: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.files: list[Manifest] = []  # those that hold rows
        self.images = 0
        self.tokens = 0
        self.new_images = 0  # by this command
        self.total_images: int | None = None  # of the input, once it is indexed
        self._started = time.monotonic()
        self._lock = threading.Lock()  # a minute's line comes from a thread of its own

    def add(self, manifest: Manifest, *, new: bool) -> None:
        with self._lock:
            self.files += [manifest] if manifest.file else []
            self.images += manifest.rows
            self.new_images += manifest.rows if new else 0
            self.tokens += manifest.tokens
            self.status.update(manifest.status)
            self.reasons.update(manifest.reasons)
            self.turns.update(manifest.turns)
            self.corrections.update(manifest.corrections)
            self.correction_tokens.update(manifest.correction_tokens)
            self.seconds.update(manifest.seconds)
            self.examples = {**manifest.examples, **self.examples}

    def follow(self, manifests: Iterable[Manifest]) -> None:
        """Adds manifests as they come, with a line and a fresh run.json each minute meanwhile.

        A terminal has Ray's bars in place of the lines.
        """
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(LINE_EVERY_S):
                if not sys.stderr.isatty():
                    print(self.line(), file=sys.stderr, flush=True)
                try:
                    self.write()
                except Exception as error:  # the storage may be well again in a minute
                    print(f"run.json could not be written: {error}", file=sys.stderr, flush=True)

        heart = threading.Thread(target=beat, daemon=True)
        heart.start()
        try:
            for manifest in manifests:
                self.add(manifest, new=True)
        finally:
            ended.set()
            heart.join()

    def line(self) -> str:
        """One greppable line: how far, how fast, how much longer."""
        elapsed = time.monotonic() - self._started
        rate = self.new_images / elapsed
        total = "?" if self.total_images is None else str(self.total_images)
        left = "?"
        if self.total_images is not None and rate > 0:
            left = f"{(self.total_images - self.images) / rate / 60:.1f}"
        return (
            f"progress images={self.images}/{total} failed={self.status['failed']} "
            f"turns={self.turns.total()} images_per_s={rate:.2f} minutes_left={left}"
        )

    def write(self, *, finished: bool = False) -> dict[str, Any]:
        """Writes run.json, and returns it; a finished one says how scores follow length,
        and what correction did to answers.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        wall = time.monotonic() - self._started
        with self._lock:
            content = {
                "images": self.images,
                "status": dict(self.status),
                "reasons": dict(self.reasons),
                "examples": self.examples,
                "turns": self.turns.total(),
                "turn_status": dict(self.turns),
                "tokens": self.tokens,
                "corrections": dict(self.corrections),
                "correction_tokens": dict(self.correction_tokens),
                "seconds": {stage: round(s, 3) for stage, s in self.seconds.items()}
                | {"wall": round(wall, 3)},
                "origin": self.origin,
                "facts": self.facts,
                "config": dataclasses.asdict(self.config),
                "finished": now if finished else None,
            }
        if finished:
            content["length_correlation"] = length_correlation(self.output, self.files)
            content["corrected"] = corrected(self.output, self.files) if self.corrections else None
        self.output.write_json("run.json", content)
        return content


def length_correlation(output: Output, files: list[Manifest]) -> dict[str, float | None]:
    """Spearman's correlation of each score with the answer's length in characters.

    Over the scored turns of a sample of files where there are many; None for a score that has
    no values, or only one. A score that follows length ranks long answers, not grounded ones.
    """
    lengths, scores = [], []
    for turns in sampled(output, files, ("answer", "scores")):
        scored = turns.filter(pc.is_valid(pc.struct_field(turns, "scores")))
        lengths.append(pc.utf8_length(pc.struct_field(scored, "answer")))
        scores.append(pc.struct_field(scored, "scores"))
    if not scores:
        return dict.fromkeys(SCORE_NAMES)
    length, score = pa.concat_arrays(lengths), pa.concat_arrays(scores)
    correlations = {}
    for name in SCORE_NAMES:
        values = pc.struct_field(score, name)
        there = pc.fill_null(pc.is_finite(values), False)
        found = ranking.spearman(values.filter(there), length.filter(there))
        correlations[name] = None if found is None else round(found, 3)
    return correlations
