"""Parquet files with an image column: binary, a struct with `bytes`, or lists of one image.

Where the layout asks for turns, a column of lists or two columns of text hold them. Records of ours
keep their ids, sources and failures. Row groups are read in batches: other libraries write a whole
file as one.
"""

import json
import logging
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray import storage
from c3l_ray.inputs.formats import given_turns
from c3l_ray.inputs.formats.parquet_columns import Columns, UnsuitableColumns, choose_columns
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.inputs.units import Sample, SampleStart, Shard, ShardEnd, Unit, is_digest
from c3l_ray.schema import TEXT_ONLY, error_reason
from c3l_ray.storage import Location

__all__ = [
    "UnsuitableColumns",
    "check_file",
    "choose_columns",
    "find_samples",
    "is_damage",
    "open_file",
    "read_samples",
]

BATCH_ROWS = 64
BATCH_BYTES = 16 * 2**20
BUFFER_BYTES = 2**20  # of a column that is read; without a bound it is the whole row group
SLOW_GROUP_ROWS = 1024
SLOW_GROUP_BYTES = 256 * 2**20

FEW_ROWS = 100_000
MIN_ROW_BYTES = 4
"""What a row of an image takes at least, compressed, in a file of more than a few rows."""

log = logging.getLogger(__name__)


def open_file(opened: BinaryIO) -> pq.ParquetFile:
    """The file, once it is known to hold about as many rows as it says.

    Raises:
        pyarrow.ArrowInvalid: it has more rows than its bytes can be, or is none.
    """
    file = pq.ParquetFile(opened, buffer_size=BUFFER_BYTES, pre_buffer=False)
    num_bytes = opened.seek(0, os.SEEK_END)
    num_rows = max(
        (
            file.metadata.num_rows,
            *(file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)),
        )
    )
    if num_rows > FEW_ROWS and num_rows * MIN_ROW_BYTES > num_bytes:
        raise pa.ArrowInvalid(f"{num_rows:,} rows in {num_bytes:,} bytes, which unpack without end")
    return file


def check_file(opened: BinaryIO, name: str, layout: Layout) -> None:
    """Refuses a file whose columns cannot be used, and warns of one that is slow to read.

    Raises:
        UnsuitableColumns: as `choose_columns`.
        pyarrow.ArrowException, OSError: it cannot be read.
    """
    file = open_file(opened)
    choose_columns(file.schema_arrow, layout)
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    largest = max(groups, key=lambda group: group.total_byte_size, default=None)
    if (
        largest is not None
        and largest.num_rows > SLOW_GROUP_ROWS
        and largest.total_byte_size > SLOW_GROUP_BYTES
    ):
        log.warning(
            "%s has row groups of up to %d rows, %d MB. Each unit of at most 256 rows is read from "
            "the beginning of its row group, which takes long; a file written with a "
            "row_group_size of 256 is read faster",
            *(name, largest.num_rows, largest.total_byte_size // 10**6),
        )


def find_samples(
    location: Location, shard: Shard, layout: Layout
) -> Iterator[SampleStart | ShardEnd]:
    """The rows of a file, then its end; a row's position is its share of its row group's bytes."""
    row = position = 0
    try:
        with location.open() as opened:
            file = open_file(opened)
            chosen = choose_columns(file.schema_arrow, layout)
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                keys = _read_keys(file, number, group.num_rows, chosen["key"], row)
                for offset, key in enumerate(keys):
                    before = group.total_byte_size * offset // max(1, group.num_rows)
                    yield SampleStart(key=key, start=row + offset, position=position + before)
                row += group.num_rows
                position += group.total_byte_size
    except Exception as error:  # pyarrow raises a dozen kinds on bytes made by strangers
        if not is_damage(error):
            raise
        yield ShardEnd(end=row, position=position, damage=f"row {row}: {str(error).strip()}")
    else:
        yield ShardEnd(end=row, position=position)


def read_samples(location: Location, unit: Unit, layout: Layout) -> Iterator[Sample]:
    """The rows of a unit's range; those that cannot be read are failed rows."""
    row = unit.start
    if row == unit.end:
        return
    try:
        with location.open() as opened:
            file = open_file(opened)
            chosen = choose_columns(file.schema_arrow, layout)
            columns = sorted({column for column in chosen.values() if column})
            for batch in _read_batches(file, unit.start, unit.end, columns):
                for values in batch.to_pylist(maps_as_pydicts="lossy"):
                    yield _make_sample(row, values, chosen, layout)
                    row += 1
        if row < unit.end:
            raise pa.ArrowInvalid(f"the file ends before row {row}")
    except Exception as error:  # as above
        if not is_damage(error):
            raise
        # What Arrow has not learnt to read is a good file all the same.
        is_unknown = isinstance(error, pa.ArrowNotImplementedError)
        reason = "unsupported" if is_unknown else "damaged_shard"
        for lost in range(row, unit.end):
            message = f"{reason}: {unit.source} row {lost}: {str(error).strip()}"
            yield Sample(key=f"{lost:08d}", error=message)


def _make_sample(row: int, row_values: dict[str, Any], chosen: Columns, layout: Layout) -> Sample:
    def value(name: str) -> Any:
        column = chosen.get(name)
        return None if column is None else row_values[column]

    image, error = value("image"), value("error")
    if error is not None and error_reason(error) == "no_turn":
        error = None  # that may be otherwise now
    if isinstance(image, list):
        if len(image) > 1 and error is None:
            error = f"several_images: the row has {len(image)}, and a row is one image"
        image = image[0] if len(image) == 1 else None
    if isinstance(image, dict):
        path = image.get("path")
        image = image["bytes"]
        if image is None and path is not None and error is None:
            error = f"no_image: the row names {path} and holds no bytes of it"
    turns = None
    if isinstance(layout, TurnsLayout):
        content = value("turns")
        if "turns" not in chosen:
            question = value("question")
            if addition := value("input"):
                question = given_turns.join_texts(question, addition)
            content = [{"question": question, "answer": value("answer")}]
        fields = {name: value(name) for name in given_turns.FIELDS_OF_DATASETS if name in chosen}
        if fields:
            content = given_turns.restore_fields(content, fields)
        turns = given_turns.read_turns(content, layout.history)
    if image is None and error is None:
        # Records of ours may have been written without their images.
        reason = "no_image" if turns is None or "image_id" in chosen else TEXT_ONLY
        error = f"{reason}: column {chosen['image']} is null"
    if turns is not None and error is None:
        error = given_turns.explain_no_turn(turns)
    key, caption, meta = (_text_of(value(name)) for name in ("key", "caption", "meta"))
    image_id = value("image_id")
    return Sample(
        key=f"{row:08d}" if key is None else key,
        image=image,
        caption=caption,
        meta=meta,
        error=error,
        turns=turns,
        # A file that looks like our records may be a stranger's: its ids are no names of files.
        image_id=image_id if is_digest(image_id) else None,
        source=value("source"),
    )


def _text_of(value: Any) -> str | None:
    """A value as text; that of a list has its items' lines, that of fields is JSON."""
    if isinstance(value, list) and all(isinstance(item, str | bytes | None) for item in value):
        lines = [_text_of(item) for item in value]
        return "\n".join(line for line in lines if line) or None
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return given_turns.text_of(value)


def _read_keys(
    file: pq.ParquetFile, group: int, rows: int, column: str | None, first: int
) -> list[str]:
    numbers = [f"{row:08d}" for row in range(first, first + rows)]
    if column is None:
        return numbers
    values = file.read_row_group(group, columns=[column])[column].to_pylist()
    return [
        number if value is None else str(_text_of(value))
        for number, value in zip(numbers, values, strict=True)
    ]


def _read_batches(
    file: pq.ParquetFile, start: int, end: int, columns: list[str]
) -> Iterator[pa.RecordBatch]:
    """Rows [start, end) of these columns, from the row groups that hold them."""
    first = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        last = first + group.num_rows
        if first < end and last > start:
            row_bytes = max(1, group.total_byte_size // group.num_rows)
            size = max(1, min(BATCH_ROWS, BATCH_BYTES // row_bytes))
            position = first
            for batch in file.iter_batches(
                size, row_groups=[number], columns=columns, use_threads=False
            ):
                after = position + batch.num_rows
                if after > start:
                    begin = max(0, start - position)
                    yield batch.slice(begin, min(end, after) - position - begin)
                position = after
                if position >= end:
                    return
        first = last


def is_damage(error: Exception) -> bool:
    """Whether the content is at fault: pyarrow says that with an OSError too, but with no errno.

    A kind of OSError, such as the PermissionError of S3 where credentials have expired, is none.
    """
    if type(error) is OSError:
        return error.errno is None
    return not storage.is_fault(error)
