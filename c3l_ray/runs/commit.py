"""Exactly-once output: a unit's rows are visible when its manifest is, whole, and never twice.

A writer puts `records/<unit>-<attempt>.parquet`, then `manifests/<unit>.json` where none is yet.
That second put is the commit: whoever loses the race has written a file that no manifest names.
A unit whose failed rows are healed is committed again, as another edition: `<unit>.1` in both
names, then `<unit>.2`. Readers trust manifests only, and of a unit that of its latest edition.
"""

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
from c3l_ray.schema import IMAGES, RECORDS, TEXT_ONLY, conform, error_reason
from c3l_ray.storage import Location

BATCH_ROWS = 16  # of which each may hold an image of many megabytes


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a committed unit holds.

    Attributes:
        unit: its name.
        source: the shard that it comes from.
        origin: of its rows.
        attempt: the writer's own name; it tells a lost response from a lost race.
        version: of c3l-ray that wrote it.
        edition: how often the unit was committed before.
        file: of records, relative to the run folder; None for a unit without rows.
        digest: of the file.
        counts: of its rows.
    """

    unit: str
    source: str
    origin: str
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    version: str = __version__
    edition: int = 0
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
    if staged is None:
        return commit_records(folder, Manifest(unit=unit, source=source, origin=origin), None)
    records = make_records(staged, origin)
    counts = count_staged(staged, records)
    manifest = Manifest(unit=unit, source=source, origin=origin, counts=counts)
    return commit_records(folder, manifest, records)


def commit_records(folder: RunFolder, manifest: Manifest, records: pa.Table | None) -> Manifest:
    """Writes a unit's records, and returns the manifest that counts: another's if it came first.

    Args:
        folder: of the run.
        manifest: of the unit and its edition, without a file.
        records: in the schema RECORDS, or None for a unit without rows.

    Raises:
        OSError: the storage failed.
        C3LError: the folder, or this unit, is of another origin.
    """
    name = name_edition(manifest.unit, manifest.edition)
    manifest_name = f"manifests/{name}.json"
    if records is not None:
        buffer = io.BytesIO()
        pq.write_table(records, buffer, compression="zstd")
        content = buffer.getvalue()
        file = f"records/{name}-{manifest.attempt}.parquet"
        manifest = dataclasses.replace(manifest, file=file, digest=_digest(content))
        try:
            folder.write(file, content)
        except FileNotFoundError:
            # Another command has committed the unit, and deleted what this one had begun to write.
            if not (folder.location / manifest_name).exists():
                raise
    folder.check_owner(manifest.origin)
    if folder.write_if_absent(manifest_name, manifest.to_json().encode()):
        return manifest
    first = Manifest.from_json((folder.location / manifest_name).read())
    check_origin(folder, first, manifest.origin)
    return first


def count_staged(staged: pa.Table, records: pa.Table) -> Counts:
    """Counts a unit's rows: its records, and what only the staged rows know of them."""
    stages = ("generate", "score")
    notes = {note for notes in staged["notes"].to_pylist() for note in notes or []}
    return count_records(
        records,
        notes=sorted(notes),
        seconds={stage: staged[f"{stage}_s"][0].as_py() or 0.0 for stage in stages},
        scoring={how for how in staged["scoring"].to_pylist() if how is not None},
        faults=staged["faults"].to_pylist(),
    )


def name_edition(unit: str, edition: int) -> str:
    """What files of a unit's edition begin with; those of the first begin with the unit's name."""
    return f"{unit}.{edition}" if edition else unit


def parse_edition(name: str) -> tuple[str, int]:
    """The unit and the edition that `name_edition` named."""
    unit, _, edition = name.partition(".")
    return unit, int(edition or 0)


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
    """Every committed unit's manifest, of its latest edition, in the order of their names.

    Raises:
        C3LError: a file among them is no manifest.
        OSError: the storage failed.
    """
    latest: dict[str, tuple[int, storage.Location]] = {}
    for file in folder.list_json("manifests"):
        try:
            unit, edition = parse_edition(file.name.removesuffix(".json"))
        except ValueError as error:
            raise C3LError(
                f"{file.address} is not a manifest of this version: {error!r}"
            ) from error
        if unit not in latest or latest[unit][0] < edition:
            latest[unit] = edition, file
    files = [file for _, file in latest.values()]
    with ThreadPoolExecutor(16) as readers:
        for file, content in zip(files, readers.map(storage.Location.read, files), strict=True):
            try:
                yield Manifest.from_json(content)
            except (ValueError, KeyError, TypeError) as error:
                raise C3LError(
                    f"{file.address} is not a manifest of this version: {error!r}"
                ) from error


def read_records(
    folder: RunFolder, manifest: Manifest, columns: list[str] | None = None
) -> pa.Table:
    """The rows of a committed unit that has a file, or some columns of them.

    Raises:
        C3LError: as `read_file`.
    """
    assert manifest.file is not None
    return read_file(folder, manifest.file, manifest.digest, columns)


def iterate_records(
    folder: RunFolder, manifest: Manifest, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a committed unit that has a file, in order, a few at a time: none over 2 GiB.

    Raises:
        C3LError: as `read_file`.
    """
    if columns is not None:
        yield from read_records(folder, manifest, columns).to_batches()
        return
    assert manifest.file is not None
    content = _read_content(folder.location / manifest.file, manifest.digest)
    file = pq.ParquetFile(pa.BufferReader(content), pre_buffer=False)
    yield from file.iter_batches(BATCH_ROWS, use_threads=False)


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
    except (*storage.ERRORS, pa.ArrowException) as error:
        raise C3LError(f"{location.address} cannot be read: {error}") from error
    return pq.read_table(io.BytesIO(_read_content(location, digest)), schema=RECORDS)


def _read_content(location: Location, digest: str | None) -> bytes:
    """The bytes of a committed file, which are those that its manifest names."""
    try:
        content = location.read()
    except storage.ERRORS as error:
        raise C3LError(f"{location.address} cannot be read: {error}") from error
    if _digest(content) != digest:
        raise C3LError(f"{location.address} is damaged: it is not what its manifest says")
    return content


def make_records(staged: pa.Table, origin: str) -> pa.Table:
    """Finished rows of the schema STAGED_ROWS as records."""
    errors = staged["error"].to_pylist()
    columns: dict[str, Any] = {name: staged[name] for name in (*IMAGES.names, "error")}
    columns["turns"] = [turns or [] for turns in staged["turns"].to_pylist()]
    columns["status"] = [
        "ok" if error is None else TEXT_ONLY if error_reason(error) == TEXT_ONLY else "failed"
        for error in errors
    ]
    columns["origin"] = [origin] * len(errors)
    return conform(columns, RECORDS)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
