"""What the input is cut into: shards, the units in them, and the samples that a unit is read as."""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Literal

from c3l_ray.schema import Turn

Format = Literal["tar", "parquet", "folder", "llava"]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of the input, or a folder of images.

    Attributes:
        format: of its content.
        path: where it lies.
        source: its path relative to the input, the same wherever the data lies.
        size: in bytes.
        etag: S3's name for its content, where it lies there.
        names: of the images to read in a folder; None is all of them.
        metadata: where the file lies that lists the captions of a folder's images.
    """

    format: Format
    path: str
    source: str
    size: int
    etag: str | None = None
    names: tuple[str, ...] | None = None
    metadata: str | None = None

    @property
    def address(self) -> str:
        """Where it lies, as a user names it."""
        return self.path.removeprefix("file://")

    @property
    def name(self) -> str:
        return digest_text(self.source)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A range of a shard: what is read, computed and committed as one.

    Attributes:
        name: unique in a run, the same in every run over the same input.
        format, path, source: of the shard; the format "joined" is of a unit that joins others.
        start, end: the range [start, end): bytes of a tar, rows of a Parquet file, samples of a
            folder, and of a tar whose samples do not stand together.
        rows: how many it has, a damage's own row included.
        repeats: of rows whose key came earlier in the shard, by position: how often it had come.
        size: bytes, about.
        files: what the format noted of each sample to find its files by, where the range does not
            tell; only the format reads it.
        damage: what ended the shard before its time; it becomes a failed row, the unit's last.
        passed_over: how many images of the whole shard are no rows; the shard's last unit has it.
        members: the units that this one joins, in their order.
    """

    name: str
    format: Format | Literal["joined"]
    path: str
    source: str
    start: int
    end: int
    rows: int
    size: int = 0
    repeats: dict[str, int] = field(default_factory=dict)
    files: list[dict[str, str]] = field(default_factory=list)
    damage: str | None = None
    passed_over: int = 0
    members: list["Unit"] = field(default_factory=list)

    @property
    def num_found(self) -> int:
        """How many rows it has, those for a damage not counted."""
        if self.members:
            return sum(member.num_found for member in self.members)
        return self.rows - (self.damage is not None)

    @property
    def num_passed_over(self) -> int:
        """How many images are passed over, those of its members included."""
        return self.passed_over + sum(member.num_passed_over for member in self.members)


@dataclass(frozen=True, kw_only=True)
class SampleStart:
    """Where a sample begins in its shard.

    Attributes:
        key: its name in the shard.
        start: where it begins, as in Unit.
        position: bytes of the shard before it.
        files: as in Unit, for one sample.
    """

    key: str
    start: int
    position: int
    files: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class ShardEnd:
    """Where a shard ends, as in SampleStart.

    Attributes:
        end, position: as start and position of a sample that would come next.
        damage: what ended it before its time.
        passed_over: how many images in it are no samples.
    """

    end: int
    position: int
    damage: str | None = None
    passed_over: int = 0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image as it lies in a unit.

    Attributes:
        key: its name in the shard.
        image: the bytes, not decoded; None where there are none.
        caption: the text beside it.
        meta: the JSON beside it, as found.
        error: why it cannot be used, beginning with a countable word.
        turns: that were made elsewhere; None where the input has none.
        image_id, source: of a record of an earlier run, which keeps them.
    """

    key: str
    image: bytes | None = None
    caption: str | None = None
    meta: str | None = None
    error: str | None = None
    turns: list[Turn] | None = None
    image_id: str | None = None
    source: str | None = None


def readable_name(name: str) -> str:
    """A file's name as text, where its bytes are not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_digest(text: object) -> bool:
    """Whether something is a name as `digest_text` makes it, which is safe as a name of a file."""
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]{16}", text) is not None


def digest_text(text: str) -> str:
    """A name for a text: 16 hex digits."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
