"""LLaVA's conversation format: samples in one JSON list, or one a line, and the images they name.

A sample travels whole in `meta`. What was said in it becomes turns where the layout asks for them.
"""

import codecs
import errno
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from c3l_ray.config import Layout, TurnsLayout
from c3l_ray.data import storage
from c3l_ray.data.formats import turns
from c3l_ray.data.units import End, Place, Sample, Shard, Unit, digest
from c3l_ray.errors import Refused
from c3l_ray.schema import TEXT_ONLY

ENDINGS = (".json", ".jsonl")
READ_AT_ONCE = 16 * 2**20  # bytes: the list of LLaVA-665K is a gigabyte
NUM_TRIED = 16  # images that are looked for before the start
_GAP = re.compile(r"[ \t\r\n,]*")
_ABSENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


class Unfit(Exception):
    """Text that is no list of samples; the message says where and why."""


def walk(fs: Any, path: str, shard: Shard, layout: Layout) -> Iterator[Place | End]:
    """The samples of the list, placed by bytes, then its end."""
    end = 0
    try:
        for start, after, sample in _samples(fs, path):
            yield Place(key=_key(sample), start=start, position=0)
            end = after
    except Unfit as error:
        yield End(end=end, position=0, damage=str(error))
    else:
        yield End(end=end, position=0)


def read(
    fs: Any,
    path: str,
    unit: Unit,
    layout: Layout,
    rows: Sequence[int] | None = None,
    *,
    with_images: bool = True,
) -> Iterator[Sample]:
    """The samples of a unit's bytes, with their images.

    Args:
        fs: the file system.
        path: of the list on it.
        unit: to read.
        layout: where the images are, and whether what was said becomes turns.
        rows: numbers of the samples to read; by default all of them.
        with_images: False leaves the images' bytes where they are.
    """
    if unit.end == unit.start:
        return
    content, at = fs.cat_file(path, start=unit.start, end=unit.end).decode(), 0
    samples = []
    while (at := _after_gap(content, at)) < len(content):
        sample, at = json.JSONDecoder().raw_decode(content, at)
        samples.append(sample)
    if rows is not None:
        samples = [samples[row] for row in rows]
    root_fs, root = _root(fs, path, layout)

    def with_image(sample: dict[str, Any]) -> Sample:
        # Half of a surrogate pair is JSON, and no text that Arrow takes.
        meta = json.dumps(sample, ensure_ascii=False).encode("utf-8", "replace").decode()
        sample = json.loads(meta)
        names, image = images(sample), None
        error = _unusable(names)
        if error is None and with_images:
            try:
                image = root_fs.cat_file(f"{root}/{names[0]}")
            except OSError as failed:
                if not isinstance(failed, _ABSENT) and failed.errno != errno.ENAMETOOLONG:
                    raise
                error = f"unreadable: {names[0]}: {type(failed).__name__}"
        said = None
        if isinstance(layout, TurnsLayout):
            messages = sample.get("conversations") or sample.get("messages")
            said = turns.read(messages, layout.history)
            error = error or turns.failure(said)
        return Sample(key=_key(sample), image=image, meta=meta, error=error, turns=said)

    with ThreadPoolExecutor(16) as readers:
        yield from readers.map(with_image, samples)


def check(fs: Any, path: str, layout: Layout) -> None:
    """Looks for the first images that the samples name, before all of them are missed one by one.

    Raises:
        Refused: none of them is there.
    """
    root_fs, root = _root(fs, path, layout)
    missed: list[str] = []
    try:
        for _, _, sample in _samples(fs, path):
            names = images(sample)
            if _unusable(names) is None:
                if root_fs.exists(f"{root}/{names[0]}"):
                    return
                missed.append(names[0])
            if len(missed) == NUM_TRIED:
                break
    except Unfit:
        pass  # a damage is a failed row, wherever it stands
    if missed:
        raise Refused(
            f"--input {path}: its first {len(missed)} images, {missed[0]} and so on, are not in "
            f"{root}; --layout.image-root names the folder that they are relative to"
        )


def _samples(fs: Any, path: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(first byte, byte after the last, sample) of each sample of a file, read piece by piece.

    Raises:
        Unfit: what comes next is no sample.
    """
    decoder = json.JSONDecoder()
    is_list = not path.endswith(".jsonl")
    with fs.open(path, "rb") as file:
        text = _Text(file)
        try:
            if is_list and not text.begins("["):
                raise Unfit(f"byte {text.place}: not a list of samples")
            while not (is_list and text.begins("]")):
                if text.ended():
                    if is_list:
                        raise Unfit(f"byte {text.place}: the list does not end")
                    break
                start, sample = text.place, text.decode(decoder)
                if not isinstance(sample, dict):
                    raise Unfit(f"byte {start}: not a sample with named fields")
                yield start, text.place, sample
        except (ValueError, RecursionError) as error:
            raise Unfit(f"byte {text.place}: not a list of samples: {error}") from error


class _Text:
    """A file's text from `place`, a byte of the file, on; more is read where it is needed."""

    def __init__(self, file: Any) -> None:
        self.place = 0
        self._file = file
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at = "", 0

    def ended(self) -> bool:
        """Whether nothing but a gap is left; passes over the gap."""
        while True:
            after = _after_gap(self._text, self._at)
            self.place, self._at = self.place + after - self._at, after
            if self._at < len(self._text):
                return False
            if not self._more():
                return True

    def begins(self, mark: str) -> bool:
        """Whether a character comes next; passes over it and the gap before it."""
        if self.ended() or self._text[self._at] != mark:
            return False
        self.place, self._at = self.place + 1, self._at + 1
        return True

    def decode(self, decoder: json.JSONDecoder) -> Any:
        """The JSON that comes next; ValueError where there is none."""
        while True:
            try:
                content, end = decoder.raw_decode(self._text, self._at)
            except ValueError:
                if not self._more():
                    raise
            else:
                self.place += len(self._text[self._at : end].encode())
                self._at = end
                return content

    def _more(self) -> bool:
        read = self._file.read(READ_AT_ONCE)
        self._text, self._at = self._text[self._at :] + self._utf8.decode(read, not read), 0
        return bool(read)


def _after_gap(text: str, at: int) -> int:
    found = _GAP.match(text, at)
    return found.end() if found else at


def _key(sample: dict[str, Any]) -> str:
    """A sample's id; what it says where it has none."""
    name = sample.get("id")
    return digest(json.dumps(sample, sort_keys=True)) if name is None else str(name)


def images(sample: dict[str, Any]) -> list[Any]:
    """What a sample says are its images' files."""
    named = sample.get("image") or sample.get("images") or []
    return named if isinstance(named, list) else [named]


def _unusable(names: list[Any]) -> str | None:
    """Why a sample with these images cannot be used, or None."""
    if not names:
        return f"{TEXT_ONLY}: the sample names no image"
    if len(names) > 1:
        return f"several_images: the sample names {len(names)}, and a row is one image"
    name = names[0]
    if not isinstance(name, str) or "\0" in name:
        return f"no_image: {str(name)[:100]!r} is not the name of a file"
    if name.startswith("/") or ".." in name.split("/"):
        return f"no_image: {name} leads out of the images' folder"
    return None


def _root(fs: Any, path: str, layout: Layout) -> tuple[Any, str]:
    if layout.image_root is None:
        return fs, path.rpartition("/")[0]
    return storage.connect("--layout.image-root", layout.image_root)
