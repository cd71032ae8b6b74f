"""What a report is about: runs, trainings, selections and benchmarks, in folders that a user names.

Nothing but small JSON is read here, so that a run may go on meanwhile.
"""

import functools
import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from c3l_ray import storage
from c3l_ray.benchmarks.result import RESULT, read_result
from c3l_ray.errors import PreflightError
from c3l_ray.runs.commit import Manifest, read_manifests
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.folder import REPORT, SELECTION, RunFolder
from c3l_ray.storage import Location

MEASUREMENTS = "measurements.json"  # of jobs.train
DATASET = "dataset"  # where jobs.select and jobs.c3l write by default
FLAG = "RUN"


@dataclass(frozen=True, kw_only=True)
class Run:
    """An output of jobs.generate or jobs.score, as it is now.

    Attributes:
        name: by which the report calls it.
        folder: where it lies.
        report: its run.json, of which a run that has just begun has little.
        manifests: of its committed units that have a file.
        counts: summed over all committed units.
    """

    name: str
    folder: RunFolder
    report: dict[str, Any]
    manifests: list[Manifest]
    counts: Counts


@dataclass(frozen=True, kw_only=True)
class Training:
    """An output of jobs.train: its name, folder, run.json and lines of measurements."""

    name: str
    folder: RunFolder
    report: dict[str, Any]
    measurements: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """An output of jobs.select: its name, folder and selection.json."""

    name: str
    folder: RunFolder
    selection: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """An output of jobs.evaluate benchmark.

    Attributes:
        name: by which the report calls it.
        folder: where it lies.
        report: its run.json.
        manifests: of its committed units that have a file.
        counts: summed over all committed units.
        result: its result.json; None where it has none yet.
    """

    name: str
    folder: RunFolder
    report: dict[str, Any]
    manifests: list[Manifest]
    counts: Counts
    result: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that a report is about, in the order in which it was named."""

    runs: list[Run]
    trainings: list[Training]
    datasets: list[Dataset]
    benchmarks: list[Benchmark]

    def datasets_of(self, run: Run) -> list[Dataset]:
        """The selections that were made from a run."""
        return [dataset for dataset in self.datasets if self.find_run_of(dataset) is run]

    def find_run_of(self, dataset: Dataset) -> Run | None:
        """The run that a selection was made from, or None where it is not here.

        An origin is no name of a run, since runs over other images may share it. So the run is the
        one that lies where the selection says; where none does, as after a move, the only one of
        its origin.
        """
        origin = dataset.selection.get("origin")
        runs = [run for run in self.runs if run.report.get("origin") == origin]
        place = _find_place(dataset.selection.get("input"))
        there = [run for run in runs if _find_place(run.folder.location.address) == place]
        candidates = there or runs
        return candidates[0] if len(candidates) == 1 else None

    def explain_strangers(self) -> list[str]:
        """A sentence for each dataset whose run is not here, or cannot be told."""
        sentences = []
        for dataset in self.datasets:
            if self.find_run_of(dataset) is not None:
                continue
            origin, path = (dataset.selection.get(name) for name in ("origin", "input"))
            alike = [run.name for run in self.runs if run.report.get("origin") == origin]
            named = f" {path}" if path else ""
            why = (
                f"the run{named}, and several of these have its origin ({', '.join(alike)})"
                if alike
                else f"a run{named} that is not among these"
            )
            sentences.append(
                f"{dataset.name} was selected from {why}, so that the page does not show it."
            )
        return sentences


Output = Run | Training | Dataset | Benchmark


def find_outputs(paths: Sequence[str]) -> Findings:
    """The outputs in these folders, and those inside a folder of jobs.c3l.

    Raises:
        PreflightError: a folder is no output of a job, or of another version.
        C3LError: a manifest cannot be read.
        OSError: the storage failed.
    """
    found: dict[str, Output] = {}  # by address, so that none is there twice
    for path in paths:
        top = _last_part(path)
        for part in _find_in(path, top if len(paths) > 1 else ""):
            found.setdefault(part.folder.location.address, part)
    parts = list(found.values())
    return Findings(
        runs=[part for part in parts if isinstance(part, Run)],
        trainings=[part for part in parts if isinstance(part, Training)],
        datasets=[part for part in parts if isinstance(part, Dataset)],
        benchmarks=[part for part in parts if isinstance(part, Benchmark)],
    )


def _find_in(path: str, prefix: str) -> Iterator[Output]:
    """The output in a folder, or those of the stages in it, under names with this prefix."""
    folder = RunFolder.open(path.rstrip("/") or "/", FLAG)
    report = _read_json(folder, REPORT)
    name = prefix or _last_part(path)
    if report is None:
        selection = _read_json(folder, SELECTION)
        if selection is not None:
            yield Dataset(name=name, folder=folder, selection=selection)
            return
        folder.read_run()  # says what it is
    assert report is not None
    match report.get("job"):
        case "c3l":
            for stage in _list_stages(folder):
                stage_name = f"{prefix}/{stage}" if prefix else stage
                yield from _find_in(f"{folder.path}/{stage}", stage_name)
        case "train":
            measurements = _read_json(folder, MEASUREMENTS, list) or []
            yield Training(name=name, folder=folder, report=report, measurements=measurements)
        case "benchmark":
            report = folder.read_run(takes_benchmark=True)
            manifests, counts = _read_units(folder)
            yield Benchmark(
                name=name,
                folder=folder,
                report=report,
                manifests=manifests,
                counts=counts,
                result=read_result(folder) if (folder.location / RESULT).exists() else None,
            )
        case _:
            report = folder.read_run()
            manifests, counts = _read_units(folder)
            yield Run(name=name, folder=folder, report=report, manifests=manifests, counts=counts)
            selection = _read_json(RunFolder.open(f"{folder.path}/{DATASET}", FLAG), SELECTION)
            if selection is not None:
                dataset = RunFolder.open(f"{folder.path}/{DATASET}", FLAG)
                yield Dataset(name=f"{name}/{DATASET}", folder=dataset, selection=selection)


def _read_units(folder: RunFolder) -> tuple[list[Manifest], Counts]:
    """The committed units that have a file, and the counts of all."""
    manifests = list(read_manifests(folder))
    counts = functools.reduce(operator.add, (manifest.counts for manifest in manifests), Counts())
    return [manifest for manifest in manifests if manifest.file], counts


def _list_stages(folder: RunFolder) -> list[str]:
    """The folders of the stages of jobs.c3l that have begun, in their order."""

    def order(name: str) -> tuple[int, int]:
        job, _, number = name.partition("-")
        return (int(number), ("round", "train").index(job)) if number else (1 << 62, 0)

    names = [child.name for child in folder.location.list_children()]
    stages = [
        name
        for name in names
        if name == DATASET
        or (name.partition("-")[0] in ("round", "train") and name.partition("-")[2].isdecimal())
    ]
    reports = (REPORT, SELECTION)
    begun = [
        stage
        for stage in stages
        if any((folder.location / stage / report).exists() for report in reports)
    ]
    return sorted(begun, key=order)


def _read_json(folder: RunFolder, name: str, kind: type = dict) -> Any | None:
    """The JSON of a file, or None where there is none.

    Raises:
        PreflightError: it cannot be read, or is JSON of another kind.
    """
    try:
        content = folder.read_json(name)
    except NotADirectoryError as error:
        raise PreflightError(
            f"{FLAG} {folder.path}: is a file, not the output folder of a job"
        ) from error
    except storage.ERRORS as error:
        raise PreflightError(f"{FLAG} {folder.path}: {name} cannot be read: {error}") from error
    if content is not None and not isinstance(content, kind):
        raise PreflightError(f"{FLAG} {folder.path}: its {name} is not that of a job")
    return content


def _find_place(path: Any) -> str | None:
    """Where a folder lies, however it is named; None of what names none."""
    if not isinstance(path, str):
        return None
    if path.startswith(("s3://", "s3a://")):  # without a connection, which the page may not have
        return f"s3://{path.partition('://')[2].rstrip('/')}"
    try:
        return os.path.realpath(Location.parse(path, FLAG).path)
    except PreflightError:
        return None


def _last_part(path: str) -> str:
    return PurePosixPath(path).name or path
