"""A job's output folder: whose it is, and the files in it."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from c3l_ray import __version__, schema, storage
from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.identity import Identity
from c3l_ray.runs.write_probe import check_writable
from c3l_ray.storage import Location

REPORT = "run.json"
SELECTION = "selection.json"
PARTS = "data"  # of a dataset: the folder of its Parquet files, which older versions lack

_STAGE = re.compile(r"(round|train)-\d+")  # folders of jobs.c3l
_RESULTS = {"manifests": "", "model": "", "checkpoints": "checkpoint_"}  # folder, name in it
_OF_CLAIM = ("shards", "joins", "errors", "progress")  # of what the folder was claimed for

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """The output folder of a job, of one identity, local or on S3.

    Attributes:
        location: where it lies.
        path: as the user named it.
        flag: that named it.
    """

    location: Location
    path: str
    flag: str

    @classmethod
    def open(cls, path: str, flag: str = "--output") -> "RunFolder":
        """The folder at a path; it need not exist.

        Raises:
            PreflightError: the path is neither local nor on S3.
        """
        return cls(Location.parse(path, flag), path, flag)

    def claim(self, identity: Identity, job: str, *, mix_versions: bool = False) -> Identity:
        """Takes the folder for a job of this identity; the same one may take it again.

        Another identity of the job may take it while it holds no committed rows, no checkpoint and
        no model. A process that still works for the earlier one stops at its next commit.

        Args:
            identity: of the job's output.
            job: by its name.
            mix_versions: whether to go on where the libraries alone were of other versions.

        Returns:
            The identity of the folder: this one, or that which other versions began.

        Raises:
            PreflightError: it holds a run of another identity, something else, or cannot be
                written.
            C3LError: the storage does not answer.
        """
        report = {"job": job, "version": __version__, "origin": identity.origin}
        mine = {**report, "identity": identity.content, "finished": None}
        try:
            theirs = self.read_json(REPORT)
            if theirs is None:
                self._refuse_other_content()
                if self.write_if_absent(REPORT, json.dumps(mine).encode()):
                    return identity
                theirs = self.read_json(REPORT) or {}
            if theirs["origin"] == identity.origin:
                self.write_json(REPORT, theirs)  # find out now whether it can be written
                return identity
        except (KeyError, TypeError) as error:
            raise PreflightError(f"{self.flag} {self.path}: cannot be used: {error!r}") from error
        except storage.ERRORS as error:
            raise storage.refuse(self.flag, self.path, self.location, error, need="used") from error
        self._refuse_other_version(theirs)
        if theirs.get("job") == job and not _holds_results(self.location):
            log.info("%s holds no results yet; it is begun anew with other settings", self.path)
            self.write_json(REPORT, mine)
            self._remove_what_is_of_claim()
            return identity
        before = Identity(theirs.get("identity", {}))
        changes = _list_changes(before.content, identity.content)
        only_versions = all(name.startswith("versions.") for name in changes)
        if only_versions and mix_versions:
            log.warning(
                "%s %s: was begun with other versions: %s",
                *(self.flag, self.path, "; ".join(changes.values())),
            )
            return before
        advice = " (--mix-versions goes on all the same)" if only_versions else ""
        raise PreflightError(
            f"{self.flag} {self.path}: belongs to origin {theirs['origin']}, and this run is of "
            f"origin {identity.origin}. Choose another folder, or run as before{advice}. They "
            "differ in\n  " + "\n  ".join(changes.values())
        )

    def check_free(self, job: str) -> None:
        """Refuses what `claim` will refuse whatever the identity: that is known at once.

        Args:
            job: by its name.

        Raises:
            PreflightError: the folder holds something else, is of another job or version, cannot
                be read or written, or is on a storage on which commits do not exclude each other.
            C3LError: the storage does not answer.
        """
        try:
            report = self.read_json(REPORT)
            if report is None:
                self._refuse_other_content()
        except storage.ERRORS as error:
            raise storage.refuse(self.flag, self.path, self.location, error, need="used") from error
        if isinstance(report, dict):
            self._refuse_other_version(report)
            if report.get("job") != job:
                raise PreflightError(
                    f"{self.flag} {self.path}: is the output of jobs.{report.get('job')}; choose "
                    "another folder"
                )
        check_writable(self.location, self.flag, self.path)

    def check_owner(self, origin: str) -> None:
        """Makes sure that the folder was not claimed by another job since.

        Args:
            origin: of the job that is about to commit.

        Raises:
            C3LError: it was.
        """
        report = self.read_json(REPORT)
        if report is not None and report.get("origin") != origin:
            raise C3LError(
                f"{self.flag} {self.path}: another command has begun it anew with other settings "
                f"(origin {report.get('origin')}, not {origin}); this job stops"
            )

    def write_as(self, origin: str, name: str, content: bytes) -> None:
        """Writes a whole file of the job that owns the folder.

        Raises:
            C3LError: another job owns it now.
        """
        self.check_owner(origin)
        self.write(name, content)

    def read_run(self, *, takes_benchmark: bool = False) -> dict[str, Any]:
        """run.json of a job that wrote records.

        Args:
            takes_benchmark: whether the output of a benchmark will do, whose records hold labels
                where those of other runs hold answers.

        Raises:
            PreflightError: the folder is no such run; the message says what it is.
        """
        try:
            report: dict[str, Any] | None = self.read_json(REPORT)
            selection = self.read_json(SELECTION) if report is None else None
        except NotADirectoryError as error:
            raise PreflightError(
                f"{self.flag} {self.path}: is a file, not the output folder of a run"
            ) from error
        except storage.ERRORS as error:
            raise storage.refuse(self.flag, self.path, self.location, error) from error
        if isinstance(selection, dict):
            raise PreflightError(
                f"{self.flag} {self.path}: is a dataset written by jobs.select, not a run; the run "
                f"that it was selected from is {selection.get('input')}"
            )
        if report is None:
            raise PreflightError(
                f"{self.flag} {self.path}: not the output of a run: it has no {REPORT}"
            )
        if not isinstance(report, dict) or not isinstance(report.get("identity", {}), dict):
            raise PreflightError(f"{self.flag} {self.path}: its {REPORT} is not that of a run")
        self._refuse_other_version(report)
        job = report.get("job")
        if job == "c3l":
            rounds = [name for name in report.get("stages", {}) if name.startswith("round-")]
            latest = f"{self.path.rstrip('/')}/{rounds[-1] if rounds else 'round-0'}"
            raise PreflightError(
                f"{self.flag} {self.path}: is the output of jobs.c3l, whose rounds are runs of "
                f"their own; name one, such as {latest}"
            )
        if job == "train":
            raise PreflightError(
                f"{self.flag} {self.path}: is the output of jobs.train and holds no records"
            )
        if job == "benchmark" and not takes_benchmark:
            raise PreflightError(
                f"{self.flag} {self.path}: is the output of jobs.evaluate benchmark, whose records "
                "hold the benchmark's labels as answers; no job makes data of them, and "
                "jobs.report shows what the model answered"
            )
        return report

    def _refuse_other_content(self) -> None:
        if self.read_json(SELECTION) is not None:
            raise PreflightError(
                f"{self.flag} {self.path}: is a dataset written by jobs.select; choose another "
                "folder"
            )
        if (self.location / "manifests").list_children():
            raise PreflightError(f"{self.flag} {self.path}: has manifests but no {REPORT}")

    def _remove_what_is_of_claim(self) -> None:
        for child in self.location.list_children():
            if child.name in _OF_CLAIM:
                child.remove(recursive=True)

    def _refuse_other_version(self, report: dict[str, Any]) -> None:
        version = report.get("identity", report.get("facts", {})).get("schema")
        if version != schema.VERSION:
            raise PreflightError(
                f"{self.flag} {self.path}: was written by another version of c3l-ray (schema "
                f"{version}; this one has schema {schema.VERSION}). Choose another folder, or use "
                "the version that wrote it"
            )

    def read_json(self, name: str) -> Any | None:
        """The JSON of a file in the folder, or None where there is none."""
        return (self.location / name).read_json()

    def write_json(self, name: str, content: Any) -> None:
        (self.location / name).write_json(content)

    def write(self, name: str, content: bytes) -> None:
        """Writes a whole file or nothing, replacing what was there."""
        (self.location / name).write(content)

    def write_if_absent(self, name: str, content: bytes) -> bool:
        """Writes a whole file where there is none; False where another writer's came first."""
        return (self.location / name).write_if_absent(content)

    def list_json(self, name: str) -> list[Location]:
        """The JSON files of a folder in this one, in the order of their names."""
        children = (self.location / name).list_children()
        files = [child for child in children if child.name.endswith(".json")]
        return sorted(files, key=lambda file: file.name)


def _holds_results(folder: Location) -> bool:
    """Whether a job's folder, or that of a stage in it, holds what the job was to make."""
    for child in folder.list_children():
        if _STAGE.fullmatch(child.name) and _holds_results(child):
            return True
        if child.name in _RESULTS:
            names = (result.name for result in child.list_children())
            if any(name.startswith(_RESULTS[child.name]) for name in names):
                return True
    return False


def _list_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """What differs between two identities: by its name, with dots in it, what each says."""
    there, here = dict(_list_leaves(before)), dict(_list_leaves(now))
    return {
        name: f"{name}: {there.get(name)!r} there, {here.get(name)!r} now"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    }


def _list_leaves(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _list_leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
