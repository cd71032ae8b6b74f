"""The members of a tar, from its headers: where each lies, and where the tar breaks off."""

import gzip
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from c3l_ray.inputs.formats import members
from c3l_ray.inputs.listing import is_hidden

BLOCK = tarfile.BLOCKSIZE
SKIPPED_BYTES = 2**20  # of zeros, read at once


@dataclass(kw_only=True, slots=True)
class Member:
    """A file of a tar, or a link.

    Attributes:
        name: in the tar.
        header: the byte where its header begins.
        start, size: of its content.
        link: the name that it leads to, where it is a link.
        problem: why it has no content, where it has none.
    """

    name: str
    header: int
    start: int
    size: int
    link: str | None = None
    problem: str | None = None


class TarMembers:
    """The members of a tar that are not folders and not hidden.

    After the last one, `num_hidden` is how many hidden images there were, `end` is where the whole
    members end, and `damage` says where and how the tar broke off, if it did: `tarfile` alone takes
    a broken header for the end. Tars that were joined by `cat` are one: zero blocks, which end a
    tar, are passed over where a header follows.

    Args:
        file: seekable.
        size: of the file; None where that is not known.
    """

    def __init__(self, file: Any, size: int | None) -> None:
        self.file = file
        self.size = size
        self.end = self.num_hidden = 0
        self.damage: str | None = None

    def __iter__(self) -> Iterator[Member]:
        try:
            tar = tarfile.TarFile(fileobj=self.file)
            while (info := tar.next()) is not None or self._find_header(tar):
                if info is None:
                    tar = tarfile.TarFile(fileobj=self.file)
                    continue
                num_stored = info.size if info.isfile() and info.sparse is None else 0
                if self.size is not None and info.offset_data + num_stored > self.size:
                    self.damage = f"byte {info.offset}: {info.name!r} is cut off"
                    return
                if self.size is None and num_stored:
                    self.file.seek(info.offset_data + num_stored - 1)
                    self.file.read(1)  # raises where a gzipped tar is cut off
                # It would keep every header of a shard.
                tar.members = []  # type: ignore[attr-defined]  # the stubs lack it
                if info.isdir() or is_hidden(info.name):
                    self.num_hidden += not info.isdir() and members.is_image_name(info.name)
                else:
                    yield _describe(info)
                self.end = tar.offset
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            self.damage = f"byte {self.end}: {error}"

    def _find_header(self, tar: tarfile.TarFile) -> bool:
        """Whether a header follows the zeros that a tar ends with; the file then stands there."""
        position = tar.offset
        while True:
            self.file.seek(position)
            content = self.file.read(SKIPPED_BYTES)
            zeros = len(content) - len(content.lstrip(b"\0"))
            if zeros < len(content):
                break
            if not content:
                return False
            position += len(content)
        header = position + zeros - (position + zeros - tar.offset) % BLOCK
        self.file.seek(header)
        try:
            tarfile.TarInfo.frombuf(self.file.read(BLOCK), "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            self.damage = f"byte {header}: not a tar header"
            return False
        self.file.seek(header)
        return header > tar.offset


def _describe(info: tarfile.TarInfo) -> Member:
    member = Member(name=info.name, header=info.offset, start=info.offset_data, size=info.size)
    if info.islnk():
        member.link = info.linkname
    elif info.issym():
        member.link = posixpath.join(posixpath.dirname(info.name), info.linkname)
    elif not info.isfile() or info.sparse is not None:
        member.problem = f"unreadable: {info.name} is no plain file in the tar"
    else:
        member.problem = members.explain_unread(info.name, info.size)
    if member.link is not None:
        member.size = 0
    return member
