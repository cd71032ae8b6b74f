"""run.json of a job that writes records: what a run has done so far, summed over its manifests."""

import dataclasses
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from c3l_ray import __version__
from c3l_ray.config import RecordsConfig
from c3l_ray.identity import LIBRARIES, Identity, installed_versions
from c3l_ray.runs.commit import Manifest
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.folder import REPORT, RunFolder
from c3l_ray.runs.retry import Retry, count_failed
from c3l_ray.runs.state import PROGRESS, CommandLog, RunState, State, now
from c3l_ray.runs.statistics import (
    measure_correction,
    measure_length_correlation,
    sample_scored_turns,
    summarize_scores,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RecordsReport(Counts, RunState):
    """What run.json says of a run: the counts of its records, where it stands, and

    Attributes:
        job: that writes it: "generate" or "score".
        version: of c3l-ray.
        versions: of c3l-ray and of the libraries, of every command that has written here.
        total_images: of the input, once it is indexed.
        images_per_s: that the latest command commits, from the begin of its first unit on.
        minutes_left: at that speed, until all images are committed.
        origin: digest of the identity.
        identity: what defines a row's content.
        config: of the latest command.
        finished: when, or None while images are left to do.
        score_summary: of a finished run: medians of its scores, its best and its worst turns.
        length_correlation: of a finished run: Spearman's, of each score with answer length.
        correction_effect: of a finished run that corrected answers: what that did.
    """

    job: str
    version: str = __version__
    versions: list[dict[str, str | None]] = field(default_factory=list)
    total_images: int | None = None
    images_per_s: float | None = None
    minutes_left: float | None = None
    origin: str
    identity: dict[str, Any]
    config: dict[str, Any]
    finished: str | None = None
    score_summary: dict[str, Any] | None = None
    length_correlation: dict[str, float | None] | None = None
    correction_effect: dict[str, Any] | None = None


class RunProgress:
    """Sums a run's manifests, those of earlier commands and those that come, into run.json.

    Args:
        folder: of the run.
        config: of this command.
        identity: what defines a row's content.
        job: that runs.
    """

    def __init__(
        self, folder: RunFolder, config: RecordsConfig, identity: Identity, job: str
    ) -> None:
        self.folder = folder
        self.config = config
        self.identity = identity
        self.job = job
        self._manifests: dict[str, Manifest] = {}  # by unit
        self._counts = Counts()  # of those that are not being healed
        self._healing: dict[str, int] = {}  # by unit, the rows that are done again
        self.new_images = 0  # by this command
        self.total_images: int | None = None  # of the input, once it is indexed
        earlier = folder.read_json(REPORT) or {}
        self.was_finished = earlier.get("finished") is not None
        versions, mine = earlier.get("versions", []), installed_versions(*LIBRARIES)
        self.versions = versions if mine in versions else [*versions, mine]
        self.boot_s: float | None = None  # until its first unit was begun, once one is committed
        self._commands = CommandLog(folder, identity.origin)
        self._is_written = False  # by this command, with the counts of earlier ones
        self._started = time.monotonic()
        self._lock = threading.Lock()  # a minute's update comes from a thread of its own

    def begin(self) -> None:
        """Notes that the command runs; from now on each minute has a line and a new run.json.

        Raises:
            C3LError: the folder is now of another origin.
        """

        def say() -> None:
            if self._is_written:
                log.info(self.format_line(), extra=PROGRESS)

        self.note("running")
        self._commands.begin(lambda: self.note("running"), say, self.measure)

    def note(self, state: State, error: str | None = None) -> None:
        """Writes where the run stands; before anything is counted, nothing but that.

        Raises:
            C3LError: the folder is now of another origin.
        """
        if self._is_written:
            self.write(state, error)
        else:
            self._commands.note(state, error)

    @property
    def counts(self) -> Counts:
        """Of all committed units; those that are being healed count as they are."""
        return sum((self._manifests[unit].counts for unit in self._healing), self._counts)

    def add(self, manifest: Manifest, *, new: bool) -> None:
        """Counts a manifest; what is noted in a new one for the first time is logged."""
        with self._lock:
            earlier = self._manifests[manifest.unit] if manifest.unit in self._healing else None
            known = {*self._counts.notes, *(earlier.counts.notes if earlier else ())}
            num_rows = self._healing.pop(manifest.unit, manifest.counts.images)
            self._manifests[manifest.unit] = manifest
            self._counts += manifest.counts
            if new and num_rows:
                self.new_images += num_rows
                if self.boot_s is None:
                    seconds = sum(manifest.counts.seconds.values())
                    seconds -= sum(earlier.counts.seconds.values()) if earlier else 0.0
                    self.boot_s = max(0.0, time.monotonic() - self._started - seconds)
        for note in manifest.counts.notes if new else []:
            if note not in known:
                log.warning("note: %s", note)

    def expect(self, retry: Retry, units: Iterable[str]) -> None:
        """Counts units that are added already as they are, until they are added once more, healed.

        Args:
            retry: what is done again.
            units: of it.
        """
        with self._lock:
            self._healing = {
                unit: count_failed(retry.manifests[unit], retry.reasons) for unit in units
            }
            others = self._manifests.keys() - self._healing.keys()
            self._counts = sum((self._manifests[unit].counts for unit in others), Counts())

    def follow(self, manifests: Iterable[Manifest]) -> None:
        """Adds manifests as they come."""
        for manifest in manifests:
            self.add(manifest, new=True)

    def format_line(self) -> str:
        """One greppable line: how far, how fast, how much longer."""
        with self._lock:
            total, counts = self.total_images, self.counts
            rate, minutes_left = self._measure_speed(counts)
        return (
            f"progress images={counts.images}/{'?' if total is None else total} "
            f"failed={counts.status.get('failed', 0)} turns={counts.turns} "
            f"images_per_s={'?' if rate is None else f'{rate:.2f}'} "
            f"minutes_left={'?' if minutes_left is None else f'{minutes_left:.1f}'}"
        )

    def measure(self) -> dict[str, Any]:
        """How far the command is, as a line of `progress_log` has it; None is unknown.

        Nothing before the units of earlier commands are counted.
        """
        if not self._is_written:
            return {}
        with self._lock:
            total, counts = self.total_images, self.counts
            rate, minutes_left = self._measure_speed(counts)
            new_images = self.new_images
        return {
            "images": counts.images,
            "total_images": total,
            "new_images": new_images,
            "failed": counts.status.get("failed", 0),
            "reasons": counts.reasons,
            "turns": counts.turns,
            "tokens": counts.tokens,
            "images_per_s": None if rate is None else round(rate, 3),
            "minutes_left": None if minutes_left is None else round(minutes_left, 1),
            "seconds": {stage: round(s, 1) for stage, s in counts.seconds.items()},
        }

    def _measure_speed(self, counts: Counts) -> tuple[float | None, float | None]:
        """Images per second since the first unit was begun, and minutes left; None if unknown."""
        left = None
        if self.total_images is not None:
            left = self.total_images - counts.images + sum(self._healing.values())
        if self.boot_s is None:
            return None, 0.0 if left == 0 else None
        working_s = time.monotonic() - self._started - self.boot_s
        rate = self.new_images / max(working_s, 1e-3)
        return rate, None if left is None else left / rate / 60

    def write(
        self,
        state: State = "running",
        error: str | None = None,
        *,
        measures_scores: bool = False,
    ) -> RecordsReport:
        """Writes run.json, and returns it; a finished one measures the scores too.

        Args:
            state: of the run.
            error: that it failed with.
            measures_scores: whether one that is not finished does.

        Raises:
            C3LError: the folder is now of another origin.
        """
        wall_s = time.monotonic() - self._started
        with self._lock:
            counts = self.counts
            manifests = [manifest for manifest in self._manifests.values() if manifest.file]
            rate, minutes_left = self._measure_speed(counts)
        report = RecordsReport(
            **{field.name: getattr(counts, field.name) for field in dataclasses.fields(counts)},
            job=self.job,
            versions=self.versions,
            total_images=self.total_images,
            images_per_s=None if rate is None else round(rate, 3),
            minutes_left=None if minutes_left is None else round(minutes_left, 1),
            origin=self.identity.origin,
            identity=self.identity.content,
            config=dataclasses.asdict(self.config),
        )
        seconds = {**counts.seconds, "wall": wall_s}
        if self.boot_s is not None:
            seconds["boot"] = self.boot_s
        seconds = {stage: round(s, 3) for stage, s in seconds.items()}
        report = dataclasses.replace(report, seconds=seconds)
        if state == "finished" or measures_scores:
            scored_turns = sample_scored_turns(self.folder, manifests)
            report = dataclasses.replace(
                report,
                finished=now() if state == "finished" else None,
                score_summary=summarize_scores(scored_turns),
                length_correlation=measure_length_correlation(scored_turns),
                correction_effect=measure_correction(self.folder, manifests)
                if counts.correction_outcomes
                else None,
            )
        self.folder.check_owner(self.identity.origin)
        report = dataclasses.replace(report, **self._commands.describe(state, error))
        self.folder.write_json(REPORT, dataclasses.asdict(report))
        self._is_written = True
        if state != "running":
            log.info(self.format_line())
        return report
