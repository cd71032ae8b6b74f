"""WebDataset tars as units: an Arrow block each, of at most 256 images or about 64 MB, not decoded.

A shard is indexed once: its headers are walked, and every unit's place in it is noted. Reading a
unit then is one ranged read, and a rerun reads nothing of the units that are done.
"""

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from c3l_ray.data import storage
from c3l_ray.errors import Refused
from c3l_ray.schema import FLOW, conform

UNIT_ROWS = 256
UNIT_BYTES = 64 * 2**20
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A tar of the input.

    Attributes:
        path: where it lies.
        source: its path relative to the input, the same wherever the data lies.
        size: in bytes.
        etag: S3's name for its content, where it lies there.
    """

    path: str
    source: str
    size: int
    etag: str | None = None

    @property
    def name(self) -> str:
        return _digest(self.source)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A range of a shard: what is read, computed and committed as one.

    Attributes:
        name: unique in a run, the same in every run over the same input.
        path: of the shard.
        source: of the shard, relative to the input.
        start, end: the bytes [start, end) of the shard that hold the unit.
        rows: how many it has, a damage's own row included.
        repeats: of rows whose key came earlier in the shard, by position: how often it had come.
        damage: what ended the shard before its time; it becomes a failed row, the unit's last.
    """

    name: str
    path: str
    source: str
    start: int
    end: int
    rows: int
    repeats: dict[str, int]
    damage: str | None = None


def find_shards(path: str) -> list[Shard]:
    """The tars of an input, in the order of their names.

    Raises:
        Refused: the path does not exist, is not readable, or holds no tar.
    """
    fs, root = storage.connect("--input", path)
    try:
        if not fs.exists(root):
            raise Refused(f"--input {path}: does not exist")
        if fs.isfile(root):
            if not root.endswith(".tar"):
                raise Refused(f"--input {path}: not a .tar")
            found = {root: fs.info(root)}
            folder = root.rpartition("/")[0]
        else:
            found = fs.find(root, detail=True)
            folder = root
    except storage.ERRORS as error:
        raise Refused(f"--input {path}: cannot be read: {error}") from error
    shards = [
        Shard(
            path=fs.unstrip_protocol(file),
            source=_readable(file.removeprefix(folder).lstrip("/")),
            size=info["size"],
            etag=info.get("ETag"),
        )
        for file, info in sorted(found.items())
        if file.endswith(".tar")
    ]
    if not shards:
        raise Refused(f"--input {path}: holds no .tar")
    return shards


def index(shard: Shard) -> list[Unit]:
    """The units of a shard, from its headers alone; a damage ends the last one.

    A shard without samples has one unit without rows.

    Raises:
        OSError: the storage failed.
    """
    fs, path = storage.connect("--input", shard.path)
    units: list[Unit] = []
    seen: Counter[str] = Counter()
    start = rows = 0
    repeats: dict[str, int] = {}

    def cut(end: int, damage: str | None = None) -> None:
        nonlocal start, rows, repeats
        units.append(
            Unit(
                name=f"{shard.name}-{len(units):05d}",
                path=shard.path,
                source=shard.source,
                start=start,
                end=end,
                rows=rows + (damage is not None),
                repeats=repeats,
                damage=damage,
            )
        )
        start, rows, repeats = end, 0, {}

    with fs.open(path, "rb") as file:
        walk = _Walk(file, shard.size)
        for offset, key, _ in walk:
            if rows and (rows == UNIT_ROWS or offset - start >= UNIT_BYTES):
                cut(offset)
            if seen[key]:
                repeats[str(rows)] = seen[key]
            seen[key] += 1
            rows += 1
    if rows or walk.damage or not units:
        cut(shard.size, walk.damage)
    return units


def read(unit: Unit) -> pa.Table:
    """The images of a unit, in the shard's order, as one table of the schema FLOW.

    Raises:
        OSError: the storage failed.
    """
    fs, path = storage.connect("--input", unit.path)
    data = fs.cat_file(path, start=unit.start, end=unit.end) if unit.end > unit.start else b""
    columns: dict[str, list[Any]] = {name: [] for name in FLOW.names}
    walk = _Walk(io.BytesIO(data), len(data))
    for row, (_, key, members) in enumerate(walk):
        content = {extension: walk.content(member) for extension, member in members.items()}
        ordinal = unit.repeats.get(str(row), 0)
        image = next((content[e] for e in IMAGE_EXTENSIONS if e in content), None)
        _append(columns, unit, key, ordinal)
        columns["image"][-1] = image
        columns["caption"][-1] = _text(content.get("txt"))
        columns["meta"][-1] = _text(content.get("json"))
        if image is None:
            found = ", ".join(sorted(members)) or "nothing"
            columns["error"][-1] = f"no_image: the sample has {found}, and no jpg, png or webp"
    if unit.damage is not None:
        _append(columns, unit, f"damage at {unit.damage}", 0)
        columns["error"][-1] = f"damaged_shard: {unit.source} at {unit.damage}"
    return conform(columns, FLOW)


def _append(columns: dict[str, list[Any]], unit: Unit, key: str, ordinal: int) -> None:
    for values in columns.values():
        values.append(None)
    columns["image_id"][-1] = _digest(f"{unit.source}\n{key}\n{ordinal}")
    columns["key"][-1] = key
    columns["source"][-1] = unit.source
    columns["unit"][-1] = unit.name
    columns["unit_rows"][-1] = unit.rows


class _Walk:
    """The samples of a tar: (offset of the first header, key, member by extension).

    Members that share a key stand together. After the walk, `damage` says where and how the tar
    broke off, or is None: `tarfile` alone takes a broken header for the end.
    """

    def __init__(self, file: Any, size: int) -> None:
        self.file = file
        self.size = size
        self.damage: str | None = None
        self._tar: tarfile.TarFile

    def __iter__(self) -> Iterator[tuple[int, str, dict[str, tarfile.TarInfo]]]:
        offset, key, members = 0, None, dict[str, tarfile.TarInfo]()
        for member in self._members():
            folder, slash, name = _readable(member.name).rpartition("/")
            stem, _, extension = name.partition(".")
            extension = extension.lower()
            if folder + slash + stem != key or extension in members:
                if key is not None:
                    yield offset, key, members
                offset, key, members = member.offset, folder + slash + stem, {}
            members[extension] = member
        if key is not None:
            yield offset, key, members

    def content(self, member: tarfile.TarInfo) -> bytes:
        opened = self._tar.extractfile(member)
        assert opened is not None  # only regular files come out of the walk
        return opened.read()

    def _members(self) -> Iterator[tarfile.TarInfo]:
        try:
            self._tar = tarfile.TarFile(fileobj=self.file)
            while (member := self._tar.next()) is not None:
                if member.offset_data + member.size > self.size:
                    self.damage = f"byte {member.offset}: {member.name!r} is cut off"
                    return
                # It would keep every header of a shard.
                self._tar.members = []  # type: ignore[attr-defined]  # the stubs lack it
                if member.isfile() and not member.name.rpartition("/")[2].startswith("."):
                    yield member
        except tarfile.TarError as error:
            self.damage = f"byte 0: {error}"
            return
        self.file.seek(self._tar.offset)
        if any(self.file.read(BLOCK)):
            self.damage = f"byte {self._tar.offset}: not a tar header"


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", errors="replace")


def _readable(name: str) -> str:
    """A file's name as text, where its bytes are not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
