"""Exactly-once output: a unit's rows are visible when its manifest is, whole, and never twice.

A writer puts `records/<unit>-<attempt>.parquet`, then `manifests/<unit>.json` where none is yet.
That second put is the commit: whoever loses the race has written a file that no manifest names.
Readers trust manifests only.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray import __version__, storage
from c3l_ray.errors import C3LError
from c3l_ray.runs.counts import Counts, count_records
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import IMAGES, RECORDS, TEXT_ONLY, RecordStatus, conform, error_reason


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a committed unit holds.

    Attributes:
        unit: its name.
        source: the shard that it comes from.
        origin: of its rows.
        attempt: the writer's own name; it tells a lost response from a lost race.
        version: of c3l-ray that wrote it.
        file: of records, relative to the run folder; None for a unit without rows.
        digest: of the file.
        counts: of its rows.
    """

    unit: str
    source: str
    origin: str
    attempt: str
    version: str = __version__
    file: str | None = None
    digest: str | None = None
    counts: Counts = field(default_factory=Counts)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        content = json.loads(text)
        return cls(**{**content, "counts": Counts(**content["counts"])})

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def commit_unit(
    folder: RunFolder, unit: str, source: str, staged: pa.Table | None, origin: str
) -> Manifest:
    """Writes a unit's rows, and returns the manifest that counts: another's if it came first.

    Args:
        folder: of the run.
        unit: its name.
        source: the shard that it comes from.
        staged: its rows in the schema STAGED_ROWS, or None for a unit without rows.
        origin: goes into every row.

    Raises:
        OSError: the storage failed.
        C3LError: the folder, or this unit, is of another origin.
    """
    attempt = uuid.uuid4().hex[:12]
    name = f"manifests/{unit}.json"
    manifest = Manifest(unit=unit, source=source, origin=origin, attempt=attempt)
    if staged is not None:
        records = make_records(staged, origin)
        buffer = io.BytesIO()
        pq.write_table(records, buffer, compression="zstd")
        content = buffer.getvalue()
        file = f"records/{unit}-{attempt}.parquet"
        stages = ("generate", "score")
        notes = {note for notes in staged["notes"].to_pylist() for note in notes or []}
        manifest = dataclasses.replace(
            manifest,
            file=file,
            digest=_digest(content),
            counts=count_records(
                records,
                notes=sorted(notes),
                seconds={stage: staged[f"{stage}_s"][0].as_py() or 0.0 for stage in stages},
                scoring={how for how in staged["scoring"].to_pylist() if how is not None},
                faults=staged["faults"].to_pylist(),
            ),
        )
        try:
            folder.write(file, content)
        except FileNotFoundError:
            # Another command has committed the unit, and deleted what this one had begun to write.
            if not (folder.location / name).exists():
                raise
    folder.check_owner(origin)
    if folder.write_if_absent(name, manifest.to_json().encode()):
        return manifest
    first = Manifest.from_json((folder.location / name).read())
    check_origin(folder, first, origin)
    return first


def check_origin(folder: RunFolder, manifest: Manifest, origin: str) -> None:
    """Makes sure that a committed unit is of this origin.

    Raises:
        C3LError: it is of another, whose job was still at work when the folder was begun anew.
    """
    if manifest.origin != origin:
        raise C3LError(
            f"{folder.flag} {folder.path}: unit {manifest.unit} was committed by a job of origin "
            f"{manifest.origin}, and this run is of origin {origin}; choose another folder"
        )


def read_manifests(folder: RunFolder) -> Iterator[Manifest]:
    """Every committed unit's manifest, in the order of their names.

    Raises:
        C3LError: a file among them is no manifest.
        OSError: the storage failed.
    """
    files = folder.list_json("manifests")
    with ThreadPoolExecutor(16) as readers:
        for file, content in zip(files, readers.map(storage.Location.read, files), strict=True):
            try:
                yield Manifest.from_json(content)
            except (ValueError, KeyError, TypeError) as error:
                raise C3LError(
                    f"{file.address} is not a manifest of this version: {error!r}"
                ) from error


def delete_lost_files(folder: RunFolder) -> int:
    """Deletes the data files that lost their race, and returns how many there were.

    Only a file whose unit is committed under another name is touched, so that a job still
    writing into the same folder loses nothing.
    """
    committed = {manifest.unit: manifest.file for manifest in read_manifests(folder)}
    lost = []
    for file in (folder.location / "records").list_children():
        # A writer that was killed leaves `.<unit>-<attempt>.parquet-<random>`.
        is_temporary = file.name.startswith(".")
        whole_name = file.name[1:].rpartition("-")[0] if is_temporary else file.name
        unit = whole_name.rpartition("-")[0]
        if unit in committed and committed[unit] != f"records/{file.name}":
            lost.append(file)
    for file in lost:
        with contextlib.suppress(FileNotFoundError):  # another command on this folder was first
            file.remove()
    return len(lost)


def read_records(
    folder: RunFolder, manifest: Manifest, columns: list[str] | None = None
) -> pa.Table:
    """The rows of a committed unit that has a file, or some columns of them.

    Raises:
        C3LError: as `read_file`.
    """
    assert manifest.file is not None
    return read_file(folder, manifest.file, manifest.digest, columns)


def read_file(
    folder: RunFolder, file: str, digest: str | None, columns: list[str] | None = None
) -> pa.Table:
    """The rows of a committed file, or some columns of them.

    Args:
        folder: of the run.
        file: its name in the folder.
        digest: that its manifest has.
        columns: to read; all of them where none are named.

    Raises:
        C3LError: the file cannot be read, holds no records, or is not what its writer committed
            (which only a read of all columns sees).
    """
    location = folder.location / file
    try:
        if columns is not None:
            with location.open() as opened:
                parquet = pq.ParquetFile(opened)
                if not parquet.schema_arrow.equals(RECORDS):
                    raise C3LError(f"{location.address} is no file of records of this version")
                return parquet.read(columns)
        content = location.read()
    except (*storage.ERRORS, pa.ArrowException) as error:
        raise C3LError(f"{location.address} cannot be read: {error}") from error
    if _digest(content) != digest:
        raise C3LError(f"{location.address} is damaged: it is not what its manifest says")
    return pq.read_table(io.BytesIO(content), schema=RECORDS)


def make_records(staged: pa.Table, origin: str) -> pa.Table:
    """Finished rows of the schema STAGED_ROWS as records."""
    errors = staged["error"].to_pylist()
    columns: dict[str, Any] = {name: staged[name] for name in (*IMAGES.names, "error")}
    columns["turns"] = [turns or [] for turns in staged["turns"].to_pylist()]
    columns["status"] = [_record_status(error) for error in errors]
    columns["origin"] = [origin] * len(errors)
    return conform(columns, RECORDS)


def _record_status(error: str | None) -> RecordStatus:
    if error is None:
        return "ok"
    return TEXT_ONLY if error_reason(error) == TEXT_ONLY else "failed"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
