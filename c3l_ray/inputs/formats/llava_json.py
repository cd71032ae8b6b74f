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

from c3l_ray.errors import PreflightError
from c3l_ray.inputs.formats import given_turns
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.inputs.units import Sample, SampleStart, Shard, ShardEnd, Unit, digest_text
from c3l_ray.schema import TEXT_ONLY
from c3l_ray.storage import Location

ENDINGS = (".json", ".jsonl")
CHUNK_BYTES = 16 * 2**20  # the list of LLaVA-665K is a gigabyte
NUM_CHECKED_IMAGES = 16  # before the start
_GAP = re.compile(r"[ \t\r\n,]*")
_ABSENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


class MalformedList(Exception):
    """Text that is no list of samples; the message says where and why."""


def find_samples(
    location: Location, shard: Shard, layout: Layout
) -> Iterator[SampleStart | ShardEnd]:
    """The samples of the list, placed by bytes, then its end."""
    end = 0
    try:
        for start, after, sample in _parse_samples(location):
            yield SampleStart(key=_key_of(sample), start=start, position=0)
            end = after
    except MalformedList as error:
        yield ShardEnd(end=end, position=0, damage=str(error))
    else:
        yield ShardEnd(end=end, position=0)


def read_samples(
    location: Location,
    unit: Unit,
    layout: Layout,
    rows: Sequence[int] | None = None,
    *,
    with_images: bool = True,
) -> Iterator[Sample]:
    """The samples of a unit's bytes, with their images.

    Args:
        location: of the list.
        unit: to read.
        layout: where the images are, and whether messages become turns.
        rows: numbers of the samples to read; by default all of them.
        with_images: False leaves the images' bytes where they are.
    """
    if unit.end == unit.start:
        return
    text, position = location.read(unit.start, unit.end).decode(), 0
    samples = []
    while (position := _skip_gap(text, position)) < len(text):
        sample, position = json.JSONDecoder().raw_decode(text, position)
        samples.append(sample)
    if rows is not None:
        samples = [samples[row] for row in rows]
    image_folder = _image_folder(location, layout)

    def make_sample(sample: dict[str, Any]) -> Sample:
        # Half of a surrogate pair is JSON, and no text that Arrow takes.
        meta = json.dumps(sample, ensure_ascii=False).encode("utf-8", "replace").decode()
        sample = json.loads(meta)
        names, image = image_names(sample), None
        error = _explain_unusable(names)
        if error is None and with_images:
            try:
                image = (image_folder / names[0]).read()
            except OSError as failure:
                if not isinstance(failure, _ABSENT) and failure.errno != errno.ENAMETOOLONG:
                    raise
                error = f"unreadable: {names[0]}: {type(failure).__name__}"
        turns = None
        if isinstance(layout, TurnsLayout):
            messages = sample.get("conversations") or sample.get("messages")
            turns = given_turns.read_turns(messages, layout.history)
            error = error or given_turns.explain_no_turn(turns)
        return Sample(key=_key_of(sample), image=image, meta=meta, error=error, turns=turns)

    with ThreadPoolExecutor(16) as readers:
        yield from readers.map(make_sample, samples)


def check_images(location: Location, layout: Layout) -> None:
    """Looks for the first images that the samples name, before all of them are missed one by one.

    Raises:
        PreflightError: none of them is there.
    """
    image_folder = _image_folder(location, layout)
    missing: list[str] = []
    try:
        for _, _, sample in _parse_samples(location):
            names = image_names(sample)
            if _explain_unusable(names) is None:
                if (image_folder / names[0]).exists():
                    return
                missing.append(names[0])
            if len(missing) == NUM_CHECKED_IMAGES:
                break
    except MalformedList:
        pass  # a damage is a failed row, wherever it stands
    if missing:
        raise PreflightError(
            f"--input {location.address}: its first {len(missing)} images, {missing[0]} and so on, "
            f"are not in {image_folder.address}; --layout.image-root names the folder that they "
            "are relative to"
        )


def _parse_samples(location: Location) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(first byte, byte after the last, sample) of each sample of a file, read piece by piece.

    Raises:
        MalformedList: what comes next is no sample.
    """
    decoder = json.JSONDecoder()
    is_list = not location.path.endswith(".jsonl")
    with location.open() as file:
        text = _TextReader(file)
        try:
            if is_list and not text.skip_mark("["):
                raise MalformedList(f"byte {text.byte}: not a list of samples")
            while not (is_list and text.skip_mark("]")):
                if text.at_end():
                    if is_list:
                        raise MalformedList(f"byte {text.byte}: the list does not end")
                    break
                start, sample = text.byte, text.decode(decoder)
                if not isinstance(sample, dict):
                    raise MalformedList(f"byte {start}: not a sample with named fields")
                yield start, text.byte, sample
        except (ValueError, RecursionError) as error:
            raise MalformedList(f"byte {text.byte}: not a list of samples: {error}") from error


class _TextReader:
    """A file's text from `byte` of the file on; more is read where it is needed."""

    def __init__(self, file: Any) -> None:
        self.byte = 0
        self._file = file
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text, self._position = "", 0

    def at_end(self) -> bool:
        """Whether nothing but a gap is left; passes over the gap."""
        while True:
            after = _skip_gap(self._text, self._position)
            self.byte, self._position = self.byte + after - self._position, after
            if self._position < len(self._text):
                return False
            if not self._read_more():
                return True

    def skip_mark(self, mark: str) -> bool:
        """Whether a character comes next; passes over it and the gap before it."""
        if self.at_end() or self._text[self._position] != mark:
            return False
        self.byte, self._position = self.byte + 1, self._position + 1
        return True

    def decode(self, decoder: json.JSONDecoder) -> Any:
        """The JSON that comes next; ValueError where there is none."""
        while True:
            try:
                content, end = decoder.raw_decode(self._text, self._position)
            except ValueError:
                if not self._read_more():
                    raise
            else:
                self.byte += len(self._text[self._position : end].encode())
                self._position = end
                return content

    def _read_more(self) -> bool:
        chunk = self._file.read(CHUNK_BYTES)
        decoded = self._utf8.decode(chunk, not chunk)
        self._text, self._position = self._text[self._position :] + decoded, 0
        return bool(chunk)


def _skip_gap(text: str, position: int) -> int:
    gap = _GAP.match(text, position)
    return gap.end() if gap else position


def _key_of(sample: dict[str, Any]) -> str:
    """A sample's id; what it says where it has none."""
    name = sample.get("id")
    return digest_text(json.dumps(sample, sort_keys=True)) if name is None else str(name)


def image_names(sample: dict[str, Any]) -> list[Any]:
    """What a sample says are its images' files."""
    names = sample.get("image") or sample.get("images") or []
    return names if isinstance(names, list) else [names]


def find_image_name(meta: str | None) -> str | None:
    """The one image that a LLaVA sample names, where a record's `meta` is such a sample."""
    try:
        sample = json.loads(meta or "")
    except (ValueError, RecursionError):
        return None
    names = image_names(sample) if isinstance(sample, dict) else []
    return names[0] if len(names) == 1 and isinstance(names[0], str) else None


def _explain_unusable(names: list[Any]) -> str | None:
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


def _image_folder(location: Location, layout: Layout) -> Location:
    if layout.image_root is None:
        return location.parent
    return Location.parse(layout.image_root, "--layout.image-root")
