"""Where a run stands, live or dead, read from its folder: what `jobs.status` shows."""

import dataclasses
import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from c3l_ray import storage
from c3l_ray.errors import PreflightError
from c3l_ray.runs.commit import read_manifests
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.folder import REPORT, SELECTION, RunFolder
from c3l_ray.runs.progress_log import measure_recent_speed, read_latest_lines

SILENT_FROM_S = 150.0  # a command that works writes run.json each minute

_STAGE = re.compile(r"(round|train)-(\d+)")


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a run, or a stage of C3L, stands.

    Attributes:
        name: of the stage's folder; of a run its path.
        job: that writes there.
        state: as of a run; "begun" where nothing but a claim is written, "to come" where nothing.
        done, total: of what is counted; None where it is not known.
        counted: what that is: "images", "steps" or "turns".
        per_s: as many each second, over the last ten minutes where they are known; None where
            nothing is.
        minutes_left: at that speed.
        failed: images.
        reasons: failed images by the first word of their error.
        error: what the latest command failed with.
        not_done: why the latest one of `c3l_ray.kuberay_job` is not begun again, with its status.
        command, host: of the latest command, and where it ran.
        silent_s: seconds since run.json was written; None where it does not say.
    """

    name: str
    job: str
    state: str
    done: int | None = None
    total: int | None = None
    counted: str = "images"
    per_s: float | None = None
    minutes_left: float | None = None
    failed: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None
    not_done: str | None = None
    command: str | None = None
    host: str | None = None
    silent_s: float | None = None

    @property
    def is_silent(self) -> bool:
        """Whether a command that works would have written since."""
        return self.state == "running" and (self.silent_s or 0.0) > SILENT_FROM_S


def read_statuses(folder: RunFolder, now: datetime.datetime) -> list[Status]:
    """Where a run stands, and each stage of it where it is one of jobs.c3l.

    Args:
        folder: of a run of jobs.generate, jobs.score, jobs.train or jobs.c3l, or a dataset.
        now: the time, with its zone.

    Raises:
        PreflightError: the folder is none of these, or cannot be read.
    """
    try:
        report = folder.read_json(REPORT)
        if report is None:
            status = _read_selection(folder, folder.path)
            if status is None:
                raise PreflightError(
                    f"{folder.flag} {folder.path}: not the output of a job: it has no {REPORT}"
                )
            return [status]
        if not isinstance(report, dict) or "job" not in report:
            raise PreflightError(f"{folder.flag} {folder.path}: its {REPORT} is not that of a run")
        whole = _read_status(folder, folder.path, report, now)
        if report["job"] != "c3l":
            return [whole]
        stages = [
            _read_stage(RunFolder(folder.location / name, name, folder.flag), now)
            for name in _list_stages(folder, report)
        ]
    except NotADirectoryError as error:
        raise PreflightError(
            f"{folder.flag} {folder.path}: is a file, not the output folder of a run"
        ) from error
    except storage.ERRORS as error:
        raise storage.refuse(folder.flag, folder.path, folder.location, error) from error
    words = [status.silent_s for status in (whole, *stages) if status.silent_s is not None]
    return [dataclasses.replace(whole, silent_s=min(words, default=None)), *stages]


def _list_stages(folder: RunFolder, report: Mapping[str, Any]) -> list[str]:
    """The stages of C3L, in their order: those that are there, and those that are to come."""
    rounds = report.get("config", {}).get("rounds", 0)
    found = [_STAGE.fullmatch(child.name) for child in folder.location.list_children()]
    last = max([rounds, *(int(match[2]) for match in found if match)])
    names = [f"{kind}-{number}" for number in range(last + 1) for kind in ("round", "train")]
    return [*names[:-1], "dataset"]


def _read_stage(folder: RunFolder, now: datetime.datetime) -> Status:
    if folder.path == "dataset":
        return _read_selection(folder, folder.path) or Status(
            name=folder.path, job="select", state="to come"
        )
    report = folder.read_json(REPORT)
    if report is None:
        job = "generate" if folder.path.startswith("round") else "train"
        return Status(name=folder.path, job=job, state="to come")
    return _read_status(folder, folder.path, report, now)


def _read_selection(folder: RunFolder, name: str) -> Status | None:
    report = folder.read_json(SELECTION)
    if report is None:
        return None
    state = "running" if report.get("finished") is None else "finished"
    return Status(name=name, job="select", state=state, done=report.get("turns"), counted="turns")


def _read_status(
    folder: RunFolder, name: str, report: Mapping[str, Any], now: datetime.datetime
) -> Status:
    """Where a run stands by its run.json, or by its manifests where that is old."""
    updated = report.get("updated")
    command = (report.get("commands") or [{}])[-1]
    status = Status(
        name=name,
        job=report["job"],
        state=report.get("state", "begun"),
        error=report.get("error"),
        not_done="status {status}: {reason}".format(**report["not_done"])
        if report.get("not_done")
        else None,
        command=command.get("command"),
        host=command.get("host"),
        silent_s=None
        if updated is None
        else max(0.0, (now - datetime.datetime.fromisoformat(updated)).total_seconds()),
    )
    match report["job"]:
        case "train":
            return _count_steps(folder, status, report)
        case "c3l":
            return status
    counts = report
    if status.is_silent or "images" not in report:
        of_manifests = sum((manifest.counts for manifest in read_manifests(folder)), Counts())
        counts = dataclasses.asdict(of_manifests)
    done, total, per_s = counts["images"], report.get("total_images"), report.get("images_per_s")
    if per_s is not None and status.state == "running" and not status.is_silent:
        recent = measure_recent_speed(read_latest_lines(folder), "new_images")
        per_s = per_s if recent is None else recent
    return dataclasses.replace(
        status,
        done=done,
        total=total,
        per_s=per_s,
        minutes_left=(total - done) / per_s / 60 if total is not None and per_s else None,
        failed=counts["status"].get("failed", 0),
        reasons=counts["reasons"],
    )


def _count_steps(folder: RunFolder, status: Status, report: Mapping[str, Any]) -> Status:
    """The status of a training with its steps, which the lines of its measurements count."""
    total, finished = report.get("steps"), report.get("finished")
    lines = [] if finished else folder.read_json("measurements.json") or []
    latest = lines[-1] if lines else {}
    done = total if finished else latest.get("step", 0)
    seconds = latest.get("seconds_per_step")
    return dataclasses.replace(
        status,
        done=done,
        total=total,
        counted="steps",
        per_s=1 / seconds if seconds else None,
        minutes_left=(total - done) * seconds / 60 if total is not None and seconds else None,
    )


def format_statuses(statuses: list[Status]) -> str:
    """What a person at a terminal wants to know: a line for the run, and one for each stage."""
    whole, *stages = statuses
    lines = [f"{whole.name}: {whole.job}, {_format_state(whole)}"]
    lines += [f"  {stage.name:<10} {_format_state(stage)}" for stage in stages]
    for status in statuses:
        if status.reasons:
            prefix = f"{status.name}: " if stages else ""
            counts = sorted(status.reasons.items(), key=lambda item: -item[1])
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts)
            lines.append(f"  failed     {prefix}{reasons}")
    if whole.error is not None:
        lines.append(f"  error      {whole.error}")
    if whole.not_done is not None:
        lines.append(f"  not done   {whole.not_done}")
    if whole.silent_s is not None:
        question = ": is it dead?" if whole.is_silent else ""
        lines.append(f"  last word  {_format_duration(whole.silent_s)} ago{question}")
    if whole.command is not None:
        lines.append(f"  command    {whole.command} (on {whole.host})")
    return "\n".join(lines)


def _format_state(status: Status) -> str:
    parts = [status.state]
    if status.done is not None:
        total = "" if status.total is None else f" of {status.total:,}"
        parts.append(f"{status.done:,}{total} {status.counted}")
    if status.failed:
        parts.append(f"{status.failed:,} failed")
    is_at_work = status.state == "running" and not status.is_silent
    if status.per_s is not None and is_at_work:
        parts.append(f"{status.per_s:.3g} a second")
    if status.minutes_left is not None and is_at_work:
        parts.append(f"{_format_duration(60 * status.minutes_left)} left")
    return ", ".join(parts)


def _format_duration(seconds: float) -> str:
    """In the largest unit of which it is at least two."""
    for name, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} seconds"
