"""Datasets as they lie, read as records are: training needs no run before it.

LLaVA's JSON, Parquet, captioned tars and folders, through the readers of the jobs that score and
generate: the rows have the same ids. An address holds all that reading a unit takes.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray import storage
from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.formats import llava_json, parquet
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.inputs.read import image_id_of, index_shard, read_unit
from c3l_ray.inputs.units import Format, Sample, Shard, Unit
from c3l_ray.schema import Record, error_reason
from c3l_ray.storage import Location
from c3l_ray.train.objectives import DatasetContent
from c3l_ray.train.reading.read_ahead import read_ahead
from c3l_ray.train.reading.scan import PICTURE_DIGEST_BYTES, TextRecord

log = logging.getLogger(__name__)


class DatasetSource:
    """A dataset.

    Args:
        inputs: files, folders and globs.
        layout: where images, captions and turns are, and which turns follow others.
        content: what is learnt of it: turns, or captions and turns that may be some.

    Attributes:
        shards: the files and folders of the dataset.
        layout: as it was given.

    Raises:
        PreflightError: an input does not exist, cannot be read, or lacks images or turns.
    """

    origin = ""  # no run made it
    max_pixels = None
    prompt_date = None

    def __init__(
        self, inputs: tuple[str, ...], layout: TurnsLayout, content: DatasetContent
    ) -> None:
        root = layout.image_root
        if root is not None and Path(root).is_dir():  # reading tasks have another working folder
            layout = dataclasses.replace(layout, image_root=str(Path(root).absolute()))
        self.layout = layout
        self._needs_turns = content == "turns"
        names = (field.name for field in dataclasses.fields(Layout))
        without_turns = Layout(**{name: getattr(layout, name) for name in names})
        self.shards = find_shards(inputs, layout if self._needs_turns else without_turns)
        if self._needs_turns:
            _refuse_images_alone(self.shards)
        self._layout_of: dict[Format, Layout] = {
            "llava": layout,
            "parquet": layout if _parquet_has_turns(self.shards, layout) else without_turns,
            "tar": without_turns,
            "folder": without_turns,
        }

    def digests(self) -> list[str]:
        """The source of each file, and of LLaVA's lists a digest of their content.

        Other files are known by their size, and on S3 by their ETag: they may be terabytes.
        """
        return [
            f"{shard.source} {_digest_list(shard)}"
            if shard.format == "llava"
            else f"{shard.source} {shard.size} {shard.etag}"
            for shard in self.shards
        ]

    def texts(self) -> Iterator[tuple[str, list[Record]]]:
        """The addresses of the units, and the rows of each without their images.

        Raises:
            PreflightError: a file cannot be read, or a list not to its end.
        """
        for unit, records in read_ahead(self._read_texts, self._list_units()):
            for record in records:
                if (record["error"] or "").startswith(llava_json.DAMAGED_SAMPLE):
                    address = Location.connect(unit.path).address
                    raise PreflightError(f"--input {address}: {record['error']}")
            yield json.dumps(dataclasses.asdict(unit)), records

    def read(self, address: str, rows: Sequence[int]) -> list[Record]:
        """Rows of a unit by its address and their numbers, with their images.

        An image that is not there is None.

        Raises:
            C3LError: the unit or an image cannot be read.
        """
        unit = Unit(**json.loads(address))
        try:
            return self._read_unit(unit, list(rows))
        except storage.ERRORS as error:
            raise C3LError(f"{unit.path} or its images cannot be read: {error}") from error

    def _list_units(self) -> Iterator[Unit]:
        for shard, units in read_ahead(self._index_shard, self.shards):
            address = shard.address
            for unit in units:
                if unit.damage is not None and unit.format == "llava":
                    raise PreflightError(f"--input {address}: damaged at {unit.damage}")
                if unit.damage is not None:
                    log.warning("%s is damaged; what follows is left out: %s", address, unit.damage)
                yield unit

    def _index_shard(self, shard: Shard) -> list[Unit]:
        try:
            return index_shard(shard, self._layout_of[shard.format])
        except storage.ERRORS as error:
            location = Location.connect(shard.path)
            raise storage.refuse("--input", shard.address, location, error) from error

    def _read_texts(self, unit: Unit) -> list[Record]:
        try:
            return self._read_unit(unit, with_images=False)
        except storage.ERRORS as error:
            location = Location.connect(unit.path)
            raise storage.refuse("--input", unit.path, location, error) from error

    def _read_unit(
        self, unit: Unit, rows: list[int] | None = None, *, with_images: bool = True
    ) -> list[Record]:
        numbers = list(range(unit.rows)) if rows is None else rows
        if unit.format == "llava":
            location = Location.connect(unit.path)
            samples = llava_json.read_samples(
                location, unit, self.layout, rows, with_images=with_images
            )
            staged = [
                _stage_sample(unit, row, sample)
                for row, sample in zip(numbers, samples, strict=True)
            ]
        else:
            assert unit.format != "joined", "units of a shard are not joined"
            table = read_unit(unit, self._layout_of[unit.format]).take(numbers)
            if not with_images:
                table = _replace_images(table)
            staged = table.to_pylist()
        return [self._make_record(row) for row in staged]

    def _make_record(self, staged: dict[str, Any]) -> Record:
        """A row as it is read as the record that scoring would make of it, without its scores."""
        error = staged["error"]
        if error is not None and error_reason(error) == "no_turn" and not self._needs_turns:
            error = None
        record: TextRecord = {
            "image_id": staged["image_id"],
            "key": staged["key"],
            "source": staged["source"],
            "image": staged.get("image"),
            "caption": staged["caption"],
            "meta": staged["meta"],
            "turns": staged["turns"] or [],
            "status": "ok" if error is None else "failed",
            "error": error,
            "origin": DatasetSource.origin,
        }
        if staged.get("picture") is not None:
            record["picture"] = staged["picture"]
        return record


def _replace_images(table: pa.Table) -> pa.Table:
    """Rows with a digest of each image's bytes in place of them: they were read all the same."""
    digests = [
        hashlib.blake2b(image.as_buffer(), digest_size=PICTURE_DIGEST_BYTES).hexdigest()
        if image.is_valid
        else None
        for image in table.column("image")
    ]
    return table.drop_columns("image").append_column("picture", pa.array(digests, pa.string()))


def _refuse_images_alone(shards: Sequence[Shard]) -> None:
    for shard in shards:
        if shard.format not in ("llava", "parquet"):
            raise PreflightError(
                f"--input {shard.address}: a {shard.format} of images holds "
                "no turns; this objective reads LLaVA .json, Parquet with turns, and runs"
            )


def _parquet_has_turns(shards: Sequence[Shard], layout: TurnsLayout) -> bool:
    """Whether the first Parquet file has turns where the layout says or as usual."""
    first = next((shard for shard in shards if shard.format == "parquet"), None)
    if first is None:
        return False
    location = Location.connect(first.path)
    try:
        with location.open() as file:
            parquet.choose_columns(pq.read_schema(file), layout)
    except parquet.UnsuitableColumns as error:
        if layout.turns or layout.question or layout.answer:  # asked for by name
            raise PreflightError(f"--input {location.address}: {error}") from error
        return False
    except storage.ERRORS as error:
        raise storage.refuse("--input", location.address, location, error) from error
    return True


def _digest_list(shard: Shard) -> str:
    location = Location.connect(shard.path)
    try:
        with location.open() as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()[:32]  # type: ignore[arg-type]
    except storage.ERRORS as error:
        raise storage.refuse("--input", location.address, location, error) from error


def _stage_sample(unit: Unit, row: int, sample: Sample) -> dict[str, Any]:
    names = ("key", "image", "caption", "meta", "error", "turns")
    return {
        **{name: getattr(sample, name) for name in names},
        "image_id": image_id_of(unit, row, sample),
        "source": sample.source or unit.source,
    }
