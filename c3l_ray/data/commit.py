"""Exactly-once output: a unit's rows are visible when its manifest is, whole, and never twice.

A writer puts `records/<unit>-<attempt>.parquet`, then `manifests/<unit>.json` where none is yet.
That second put is the commit: whoever loses the race has written a file that no manifest names.
Readers trust manifests only.
"""

import dataclasses
import hashlib
import io
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray.data import storage
from c3l_ray.data.units import Shard, Unit
from c3l_ray.errors import C3LError, Refused
from c3l_ray.schema import IMAGES, RECORDS, TEXT_ONLY, conform, reason


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a committed unit holds.

    Attributes:
        unit: its name.
        source: the shard it comes from.
        origin: what made its rows.
        attempt: the writer's own name; it tells a lost response from a lost race.
        file: relative to the output; None for a unit without rows.
        digest: of the file.
        rows: images.
        status: images by status.
        reasons: failed images by the first word of their error.
        examples: for each reason, one image and its whole error.
        turns: turns by status.
        tokens: generated, those of corrections included.
        corrections: corrected turns by how that ended.
        correction_tokens: those generated for corrections, and those of the answers kept of them.
        seconds: spent by each stage on this unit.
    """

    unit: str
    source: str
    origin: str
    attempt: str
    file: str | None = None
    digest: str | None = None
    rows: int = 0
    status: dict[str, int] = dataclasses.field(default_factory=dict)
    reasons: dict[str, int] = dataclasses.field(default_factory=dict)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)
    turns: dict[str, int] = dataclasses.field(default_factory=dict)
    tokens: int = 0
    corrections: dict[str, int] = dataclasses.field(default_factory=dict)
    correction_tokens: dict[str, int] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)


class Output:
    """An output folder of one origin, local or on S3.

    Raises:
        Refused: the path is neither.
    """

    def __init__(self, path: str, flag: str = "--output") -> None:
        self.path = path
        self.flag = flag
        self.fs, self.root = storage.connect(flag, path)

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process may stand in another folder.
        return Output, (self.fs.unstrip_protocol(self.root), self.flag)

    def claim(self, origin: str, facts: dict[str, Any]) -> None:
        """Takes the folder for this origin.

        Raises:
            Refused: it holds a run of another origin, something else, or cannot be written.
        """
        mine = {"origin": origin, "facts": facts, "finished": None}
        try:
            if self.read_json("run.json") is None and self._list(f"{self.root}/manifests"):
                raise Refused(f"{self.flag} {self.path}: has manifests but no run.json")
            if self.read_json("selection.json") is not None:
                raise Refused(f"{self.flag} {self.path}: holds a selection of another run")
            if self._put_first("run.json", json.dumps(mine).encode()):
                return
            found: dict[str, Any] = self.read_json("run.json") or {}
            if found["origin"] == origin:
                self.write_json("run.json", found)  # that it can be written must be known now
                return
        except (*storage.ERRORS, KeyError, TypeError) as error:
            raise Refused(f"{self.flag} {self.path}: cannot be used: {error!r}") from error
        theirs = found.get("facts", {})
        changed = [
            f"{name}: {theirs.get(name)!r} there, {facts.get(name)!r} now"
            for name in sorted({*theirs, *facts})
            if theirs.get(name) != facts.get(name)
        ]
        raise Refused(
            f"{self.flag} {self.path}: belongs to origin {found.get('origin')}, and this run is of "
            f"origin {origin}. Choose another folder, or run as before. They differ in\n  "
            + "\n  ".join(changed)
        )

    def manifests(self) -> Iterator[Manifest]:
        """Every committed unit's, in the order of their names."""
        self.fs.invalidate_cache()
        folder = f"{self.root}/manifests"
        files = [f for f in self._list(folder) if f.endswith(".json")]
        with ThreadPoolExecutor(16) as readers:
            for content in readers.map(self.fs.cat_file, sorted(files)):
                yield Manifest(**json.loads(content))

    def commit(self, unit: str, source: str, table: pa.Table | None, origin: str) -> Manifest:
        """Writes a unit's rows, and returns the manifest that counts: another's if it came first.

        Args:
            unit: its name.
            source: the shard it comes from.
            table: its rows in the schema FLOW, or None for a unit without rows.
            origin: goes into every row.

        Raises:
            OSError: the storage failed.
        """
        attempt = uuid.uuid4().hex[:12]
        manifest = Manifest(unit=unit, source=source, origin=origin, attempt=attempt)
        if table is not None:
            records = to_records(table, origin)
            buffer = io.BytesIO()
            pq.write_table(records, buffer, compression="zstd")
            content = buffer.getvalue()
            manifest = dataclasses.replace(
                manifest,
                file=f"records/{unit}-{attempt}.parquet",
                digest=_digest(content),
                rows=records.num_rows,
                **_counts(records),
                seconds={
                    stage: table[f"{stage}_s"][0].as_py() or 0.0 for stage in ("generate", "score")
                },
            )
            self.put(manifest.file or "", content)
        place = f"manifests/{unit}.json"
        content = json.dumps(dataclasses.asdict(manifest)).encode()
        if self._put_first(place, content):
            return manifest
        return Manifest(**json.loads(self.fs.cat_file(f"{self.root}/{place}")))

    def sweep(self) -> int:
        """Deletes the data files that lost their race, and returns how many there were.

        Only a file whose unit is committed under another name is touched, so that a job still
        writing into the same folder loses nothing.
        """
        kept = {manifest.unit: manifest.file for manifest in self.manifests()}
        lost = []
        for file in self._list(f"{self.root}/records"):
            name = file.rpartition("/")[2]
            # A writer that was killed leaves `.<unit>-<attempt>.parquet-<random>`.
            whole = name[1:].rpartition("-")[0] if name.startswith(".") else name
            unit = whole.rpartition("-")[0]
            if unit in kept and kept[unit] != f"records/{name}":
                lost.append(file)
        for file in lost:
            self.fs.rm_file(file)
        return len(lost)

    def records(self, manifest: Manifest, columns: list[str] | None = None) -> pa.Table:
        """The rows of a committed unit that has a file, or some columns of them.

        Raises:
            C3LError: the file cannot be read, or is not what its writer committed (which only a
                read of all columns sees).
        """
        path = f"{self.root}/{manifest.file}"
        try:
            if columns is not None:
                with self.fs.open(path, "rb") as file:
                    return pq.ParquetFile(file).read(columns)
            content = self.fs.cat_file(path)
        except (*storage.ERRORS, pa.ArrowException) as error:
            raise C3LError(f"{path} cannot be read: {error}") from error
        if _digest(content) != manifest.digest:
            raise C3LError(f"{path} is damaged: it is not what its manifest says")
        return pq.read_table(io.BytesIO(content), schema=RECORDS)

    def read_json(self, name: str) -> Any | None:
        try:
            return json.loads(self.fs.cat_file(f"{self.root}/{name}"))
        except FileNotFoundError:
            return None

    def write_json(self, name: str, content: Any) -> None:
        self.put(name, json.dumps(content, indent=2).encode())

    def known_units(self, shard: Shard) -> list[Unit] | None:
        """The units of a shard as an earlier run found them, or None.

        Raises:
            Refused: the shard has changed since.
        """
        found = self.read_json(f"shards/{shard.name}.json")
        if found is None:
            return None
        if (found["size"], found["etag"]) != (shard.size, shard.etag):
            raise Refused(
                f"--input: {shard.path} has changed since {self.path} was begun "
                f"({found['size']:,} bytes then, {shard.size:,} now). Choose another output for "
                "the changed data."
            )
        return [Unit(**{**unit, "path": shard.path}) for unit in found["units"]]

    def note_units(self, shard: Shard, units: list[Unit]) -> None:
        noted = [dataclasses.asdict(unit) for unit in units]
        self.write_json(
            f"shards/{shard.name}.json", {"size": shard.size, "etag": shard.etag, "units": noted}
        )

    def joins(self) -> list[list[list[str]]]:
        """The groups of unit names that runs have joined, in the order they were noted."""
        self.fs.invalidate_cache()
        files = [file for file in self._list(f"{self.root}/joins") if file.endswith(".json")]
        return [json.loads(self.fs.cat_file(file)) for file in sorted(files)]

    def note_joins(self, number: int, groups: list[list[str]]) -> bool:
        """Notes new groups as the file of this number. False where another run's came first."""
        return self._put_first(f"joins/{number:06d}.json", json.dumps(groups).encode())

    def listed(self) -> set[str]:
        """The names in the folder itself."""
        self.fs.invalidate_cache()
        return {path.rstrip("/").rpartition("/")[2] for path in self._list(self.root)}

    def _list(self, folder: str) -> list[str]:
        try:
            files: list[str] = self.fs.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return files

    def put(self, name: str, content: bytes) -> None:
        """A whole file or none, replacing what was there."""
        storage.put(self.fs, f"{self.root}/{name}", content)

    def _put_first(self, name: str, content: bytes) -> bool:
        return storage.put_first(self.fs, f"{self.root}/{name}", content)


def to_records(table: pa.Table, origin: str) -> pa.Table:
    """Finished rows of the schema FLOW as records."""
    errors = table["error"].to_pylist()
    turns = table["turns"].to_pylist()
    columns = {name: table[name].combine_chunks() for name in (*IMAGES.names, "error")}
    columns["turns"] = [row or [] for row in turns]
    columns["status"] = [_status(error) for error in errors]
    columns["origin"] = [origin] * len(errors)
    return conform(columns, RECORDS)


def _status(error: str | None) -> str:
    if error is None:
        return "ok"
    return TEXT_ONLY if reason(error) == TEXT_ONLY else "failed"


def _counts(records: pa.Table) -> dict[str, Any]:
    turns = [turn for row in records["turns"].to_pylist() for turn in row]
    failed = [
        (reason(row["error"]), f"{row['source']} {row['key']}: {row['error']}")
        for row in records.select(["source", "key", "error", "status"]).to_pylist()
        if row["status"] == "failed"
    ]
    corrections = [turn["correction"] for turn in turns if turn["correction"] is not None]
    return {
        "status": dict(Counter(records["status"].to_pylist())),
        "reasons": dict(Counter(why for why, _ in failed)),
        "examples": dict(reversed(failed)),
        "turns": dict(Counter(turn["status"] for turn in turns)),
        "tokens": sum(turn["num_tokens"] or 0 for turn in turns),
        "corrections": dict(Counter(correction["ended"] for correction in corrections)),
        "correction_tokens": {
            "generated": sum(correction["tokens"] for correction in corrections),
            "kept": sum(correction["kept_tokens"] for correction in corrections),
        },
    }


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
