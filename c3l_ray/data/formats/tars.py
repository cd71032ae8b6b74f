"""WebDataset tars: indexed by their headers, read by one range; gzipped ones from the beginning."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

from c3l_ray.config import Layout
from c3l_ray.data.formats import members
from c3l_ray.data.units import End, Place, Sample, Shard, Unit

BLOCK = tarfile.BLOCKSIZE
GZIP_MAGIC = b"\x1f\x8b"


def walk(fs: Any, path: str, shard: Shard, layout: Layout) -> Iterator[Place | End]:
    """The samples of a tar in order, then its end."""
    with fs.open(path, "rb") as raw:
        zipped = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        tar = _Walk(gzip.GzipFile(fileobj=raw) if zipped else raw, None if zipped else shard.size)
        for start, key, _ in tar:
            yield Place(key=key, start=start, position=start)
        yield End(end=tar.end, position=tar.end, damage=tar.damage)


def read(fs: Any, path: str, unit: Unit, layout: Layout) -> Iterator[Sample]:
    """The samples of a unit's range."""
    if unit.end == unit.start:
        return
    if fs.cat_file(path, start=0, end=2) == GZIP_MAGIC:
        with fs.open(path, "rb") as raw, gzip.GzipFile(fileobj=raw) as unzipped:
            unzipped.seek(unit.start)
            data = unzipped.read(unit.end - unit.start)
    else:
        data = fs.cat_file(path, start=unit.start, end=unit.end)
    tar = _Walk(io.BytesIO(data), len(data))
    for _, key, found in tar:
        content = {extension: tar.content(member) for extension, member in found.items()}
        yield members.sample(key, content)


class _Walk:
    """The samples of a tar: (offset of the first header, key, member by extension).

    Members that share a key stand together. After the walk, `end` says how far the whole samples
    reach, and `damage` where and how the tar broke off, if it did: `tarfile` alone takes a broken
    header for the end.

    Args:
        file: seekable.
        size: of the file; None where that is not known.
    """

    def __init__(self, file: Any, size: int | None) -> None:
        self.file = file
        self.size = size
        self.end = 0
        self.damage: str | None = None
        self._tar: tarfile.TarFile

    def __iter__(self) -> Iterator[tuple[int, str, dict[str, tarfile.TarInfo]]]:
        offset, key, found = 0, None, dict[str, tarfile.TarInfo]()
        for member in self._members():
            name, extension = members.split(member.name)
            if name != key or extension in found:
                if key is not None:
                    yield offset, key, found
                offset, key, found = member.offset, name, {}
            found[extension] = member
        if key is not None:
            yield offset, key, found

    def content(self, member: tarfile.TarInfo) -> bytes:
        opened = self._tar.extractfile(member)
        assert opened is not None  # only regular files come out of the walk
        return opened.read()

    def _members(self) -> Iterator[tarfile.TarInfo]:
        try:
            self._tar = tarfile.TarFile(fileobj=self.file)
            while (member := self._tar.next()) is not None:
                end = member.offset_data + -(-member.size // BLOCK) * BLOCK
                if self.size is not None and member.offset_data + member.size > self.size:
                    self.damage = f"byte {member.offset}: {member.name!r} is cut off"
                    return
                if self.size is None and member.size:
                    self.file.seek(member.offset_data + member.size - 1)
                    self.file.read(1)  # raises where a gzipped tar is cut off
                # It would keep every header of a shard.
                self._tar.members = []  # type: ignore[attr-defined]  # the stubs lack it
                if member.isfile() and not members.is_hidden(member.name):
                    yield member
                self.end = end
            self.file.seek(self._tar.offset)
            if any(self.file.read(BLOCK)):
                self.damage = f"byte {self._tar.offset}: not a tar header"
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.damage = f"byte {self.end}: {error}"
