"""WebDataset tars: indexed by their headers, read by one range; gzipped ones from the beginning."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any

from c3l_ray.inputs.formats import members
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.units import Sample, SampleStart, Shard, ShardEnd, Unit
from c3l_ray.storage import Location

BLOCK = tarfile.BLOCKSIZE
GZIP_MAGIC = b"\x1f\x8b"


def find_samples(
    location: Location, shard: Shard, layout: Layout
) -> Iterator[SampleStart | ShardEnd]:
    """The samples of a tar in order, then its end."""
    with location.open() as raw:
        is_zipped = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        if is_zipped:
            tar = _TarSamples(gzip.GzipFile(fileobj=raw), None)
        else:
            tar = _TarSamples(raw, shard.size)
        for start, key, _ in tar:
            yield SampleStart(key=key, start=start, position=start)
        yield ShardEnd(end=tar.end, position=tar.end, damage=tar.damage)


def read_samples(location: Location, unit: Unit, layout: Layout) -> Iterator[Sample]:
    """The samples of a unit's range."""
    if unit.end == unit.start:
        return
    if location.read(0, 2) == GZIP_MAGIC:
        with location.open() as raw, gzip.GzipFile(fileobj=raw) as unzipped:
            unzipped.seek(unit.start)
            data = unzipped.read(unit.end - unit.start)
    else:
        data = location.read(unit.start, unit.end)
    tar = _TarSamples(io.BytesIO(data), len(data))
    for _, key, files in tar:
        content = {extension: tar.read_member(member) for extension, member in files.items()}
        yield members.make_sample(key, content)


class _TarSamples:
    """The samples of a tar: (offset of the first header, key, member by extension).

    Members that share a key stand together. After the last sample, `end` is where the whole samples
    end, and `damage` says where and how the tar broke off, if it did: `tarfile` alone takes a
    broken header for the end.

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
        offset, key, files = 0, None, dict[str, tarfile.TarInfo]()
        for member in self._members():
            name, extension = members.split_name(member.name)
            if name != key or extension in files:
                if key is not None:
                    yield offset, key, files
                offset, key, files = member.offset, name, {}
            files[extension] = member
        if key is not None:
            yield offset, key, files

    def read_member(self, member: tarfile.TarInfo) -> bytes:
        opened = self._tar.extractfile(member)
        assert opened is not None  # only regular files are among the samples
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
