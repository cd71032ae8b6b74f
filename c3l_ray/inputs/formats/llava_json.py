"""LLaVA's conversation format and its relatives: samples in JSON, and the images they name.

A sample travels whole in `meta`. What was said in it becomes turns where the layout asks for them.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from c3l_ray.errors import PreflightError
from c3l_ray.inputs.formats import given_turns, image_files, json_samples
from c3l_ray.inputs.formats.image_files import ImageSizes, find_image_name, image_names
from c3l_ray.inputs.formats.json_samples import Entry, MalformedList
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.inputs.units import Sample, SampleStart, Shard, ShardEnd, Unit, digest_text
from c3l_ray.storage import Location

__all__ = ["ENDINGS", "check_images", "find_image_name", "find_samples", "read_samples"]

ENDINGS = (".json", ".jsonl")
NUM_CHECKED_IMAGES = 16  # before the start
NUM_MEASURED_TOGETHER = 2048  # images, whose sizes are looked up at once
NUM_SHOWN_FIELDS = 12
DAMAGED_SAMPLE = "damaged_sample: "


def find_samples(
    location: Location, shard: Shard, layout: Layout
) -> Iterator[SampleStart | ShardEnd]:
    """The samples of the list, placed by bytes, then its end.

    A sample's position counts the bytes of its text and of its image, as far as that is there.
    """
    folder = _image_folder(location, layout)
    sizes = ImageSizes(folder)
    entries = _EntriesToTheEnd(location)
    end = position = 0
    while batch := list(islice(entries, NUM_MEASURED_TOGETHER)):
        files = [_locate(folder, entry) for entry in batch]
        for entry, size in zip(batch, sizes.measure(files), strict=True):
            yield SampleStart(key=_key_of(entry), start=entry.start, position=position)
            end = entry.end
            position += size + entry.end - entry.start
    yield ShardEnd(end=end, position=position, damage=entries.damage)


class _EntriesToTheEnd:
    """The entries of a file. Where they break off, `damage` says how after the last."""

    def __init__(self, location: Location) -> None:
        self.damage: str | None = None
        self._entries = json_samples.parse_file(location, _is_sample)

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        try:
            return next(self._entries)
        except MalformedList as error:
            self.damage = str(error)
            raise StopIteration from error


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
    entries = list(json_samples.parse_range(location, unit.start, unit.end, _is_sample))
    if rows is not None:
        entries = [entries[row] for row in rows]
    folder = _image_folder(location, layout)

    def make_sample(entry: Entry) -> Sample:
        if entry.sample is None:
            fault = f"{DAMAGED_SAMPLE}{unit.source} at byte {entry.start}: {entry.fault}"
            return Sample(key=_key_of(entry), error=fault)
        # Half of a surrogate pair is JSON, and no text that Arrow takes.
        meta = _dump(entry.sample)
        sample = json.loads(meta)
        image = None
        file, error = image_files.locate_image(folder, image_names(sample))
        if file is not None and with_images:
            try:
                image = file.read()
            except OSError as failure:
                if not image_files.is_absent(failure):
                    raise
                name = image_names(sample)[0]
                error = f"unreadable: {name}: {type(failure).__name__}"
        turns = None
        if isinstance(layout, TurnsLayout):
            content = given_turns.find_turns(sample)
            turns = given_turns.read_turns(content, layout.history)
            error = error or given_turns.explain_no_turn(turns)
        return Sample(key=_key_of(entry), image=image, meta=meta, error=error, turns=turns)

    with ThreadPoolExecutor(16) as readers:
        yield from readers.map(make_sample, entries)


def check_images(location: Location, layout: Layout) -> None:
    """Looks for a first image and a first turn, before all of them are missed one by one.

    Raises:
        PreflightError: there is no list of samples, or none of the samples, or of the first
            images, is of use.
    """
    folder = _image_folder(location, layout)
    entries = _EntriesToTheEnd(location)
    samples: list[dict[str, Any]] = []  # the first of them
    unusable: list[str] = []  # why the first samples' images cannot be read
    num_samples = 0
    fault: str | None = None
    needs_image, needs_turn = True, isinstance(layout, TurnsLayout)
    for entry in entries:
        if entry.sample is None:
            fault = fault or f"byte {entry.start}: {entry.fault}"
            continue
        num_samples += 1
        samples = samples or [entry.sample]
        needs_turn = needs_turn and not given_turns.find_turns(entry.sample)
        if needs_image and (names := image_names(entry.sample)):
            file, error = image_files.locate_image(folder, names)
            if file is not None and not file.exists():
                error = (
                    f"{names[0]} is not in {folder.address or '/'}; --layout.image-root names the "
                    "folder that images are relative to"
                )
            needs_image = error is not None
            unusable += [error] if error else []
        if not (needs_image or needs_turn) or len(unusable) == NUM_CHECKED_IMAGES:
            break
    problem = None
    if not samples:
        fault = entries.damage or fault
        problem = fault and f"holds no sample that can be read: {fault}"
    elif needs_image and unusable:
        problem = f"its first {len(unusable)} images cannot be read; the first: {unusable[0]}"
    elif needs_image or needs_turn:
        what = "names an image" if needs_image else "has a turn"
        problem = f"none of its {num_samples} samples {what}; {_describe_fields(samples[0])}"
    if problem:
        raise PreflightError(f"--input {location.address}: {_as_text(problem)}")


def _describe_fields(sample: dict[str, Any]) -> str:
    """What a sample has, and what would be read."""
    fields = ", ".join(str(name)[:40] for name in list(sample)[:NUM_SHOWN_FIELDS])
    return (
        f"a sample has the fields {fields}. An image is read from "
        f"{', '.join(image_files.IMAGE_FIELDS)} or a message's part of type image; turns from "
        f"{', '.join(given_turns.TURN_COLUMNS)}, or from "
        f"{', '.join(' and '.join(pair) for pair in given_turns.PAIRS)}"
    )


def _is_sample(content: dict[str, Any]) -> bool:
    """Whether an object has an image or a turn, where a list or a value is to be told apart."""
    return bool(image_names(content) or given_turns.find_turns(content))


def _locate(folder: Location, entry: Entry) -> Location | None:
    if entry.sample is None:
        return None
    names = [
        _as_text(name) if isinstance(name, str) else name for name in image_names(entry.sample)
    ]
    return image_files.locate_image(folder, names)[0]


def _key_of(entry: Entry) -> str:
    """A sample's id, else the name it stands under; what it says where it has neither."""
    if entry.sample is None:
        return f"byte {entry.start}"
    name = entry.sample.get("id")
    if name is None:
        name = entry.name
    if name is None:
        # Its text, with halves of surrogate pairs as they are read later.
        return digest_text(json.dumps(json.loads(_dump(entry.sample)), sort_keys=True))
    return _as_text(str(name))


def _dump(sample: dict[str, Any]) -> str:
    return _as_text(json.dumps(sample, ensure_ascii=False))


def _as_text(text: str) -> str:
    """Text that Arrow takes: without halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode()


def _image_folder(location: Location, layout: Layout) -> Location:
    if layout.image_root is None:
        return location.parent
    return Location.parse(layout.image_root, "--layout.image-root")
