"""Parquet files with an image column: binary, or a struct with `bytes` as `datasets` writes it.

Where the layout asks for turns, a column of lists or two columns of text hold them. Records of ours
keep their ids, sources and failures.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray.inputs.formats import given_turns
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.inputs.units import Sample, SampleStart, Shard, ShardEnd, Unit, is_digest
from c3l_ray.schema import RECORDS, TEXT_ONLY, error_reason
from c3l_ray.storage import Location

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "bytes")
CAPTION_COLUMNS = ("caption", "text", "txt")
KEY_COLUMNS = ("key", "__key__")
TURNS_COLUMNS = ("turns", "conversations", "messages")
# What records of an earlier run keep.
KEPT_OF_RECORDS = ("image_id", "source", "error")


class UnsuitableColumns(Exception):
    """A file whose columns cannot be used; the message says which."""


def find_samples(
    location: Location, shard: Shard, layout: Layout
) -> Iterator[SampleStart | ShardEnd]:
    """The rows of a file, then its end; a row's position is its share of its row group's bytes."""
    row = position = 0
    try:
        with location.open() as opened:
            file = pq.ParquetFile(opened)
            chosen = choose_columns(file.schema_arrow, layout)
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                keys = _read_keys(file, number, group.num_rows, chosen["key"], row)
                for offset, key in enumerate(keys):
                    before = group.total_byte_size * offset // max(1, group.num_rows)
                    yield SampleStart(key=key, start=row + offset, position=position + before)
                row += group.num_rows
                position += group.total_byte_size
    except (pa.ArrowException, OSError, UnsuitableColumns) as error:
        if not (isinstance(error, UnsuitableColumns) or _is_damage(error)):
            raise
        yield ShardEnd(end=row, position=position, damage=f"row {row}: {str(error).strip()}")
    else:
        yield ShardEnd(end=row, position=position)


def read_samples(location: Location, unit: Unit, layout: Layout) -> Iterator[Sample]:
    """The rows of a unit's range."""
    rows = unit.end - unit.start
    if not rows:
        return
    try:
        with location.open() as opened:
            file = pq.ParquetFile(opened)
            chosen = choose_columns(file.schema_arrow, layout)
            columns = sorted({column for column in chosen.values() if column})
            table = _read_rows(file, unit.start, unit.end, columns)
    except (pa.ArrowException, OSError) as error:
        if not _is_damage(error):
            raise
        for row in range(unit.start, unit.end):
            damage = f"damaged_shard: {unit.source} row {row}: {str(error).strip()}"
            yield Sample(key=f"{row:08d}", error=damage)
        return
    for row, values in enumerate(table.to_pylist(), start=unit.start):
        yield _make_sample(row, values, chosen, layout)


def choose_columns(schema: pa.Schema, layout: Layout) -> dict[str, str | None]:
    """The file's columns by what is in them: those named, else the usual ones.

    Raises:
        UnsuitableColumns: a named column is missing or has another type, or no column holds images
            or, where the layout asks for them, turns.
    """
    for flag in ("image", "caption", "key", "meta", "turns", "question", "answer"):
        name = getattr(layout, flag, None)
        if name is not None and name not in schema.names:
            columns = ", ".join(schema.names)
            raise UnsuitableColumns(
                f"--layout.{flag} {name}: the file has no such column; it has {columns}"
            )
    usual = [
        name
        for name in IMAGE_COLUMNS
        if name in schema.names and _is_image(schema.field(name).type)
    ]
    image = layout.image or next(iter(usual), None)
    if image is None:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise UnsuitableColumns(
            f"no image column; name it with --layout.image. The file has {columns}"
        )
    if not _is_image(schema.field(image).type):
        raise UnsuitableColumns(
            f"column {image} is {schema.field(image).type}, not binary or struct of bytes"
        )

    def text_column(flag: str | None, usual: tuple[str, ...]) -> str | None:
        if flag is not None:
            return flag
        names = (name for name in usual if name in schema.names)
        return next((name for name in names if _is_text(schema.field(name).type)), None)

    chosen: dict[str, str | None] = {
        "image": image,
        "caption": text_column(layout.caption, CAPTION_COLUMNS),
        "meta": layout.meta,
        "key": text_column(layout.key, KEY_COLUMNS),
    }
    if isinstance(layout, TurnsLayout):
        chosen |= _choose_turns(schema, layout)
        if {*RECORDS.names} <= {*schema.names}:
            chosen |= {name: name for name in KEPT_OF_RECORDS}
            chosen["meta"] = layout.meta or "meta"
    return chosen


def _choose_turns(schema: pa.Schema, layout: TurnsLayout) -> dict[str, str | None]:
    """The column of lists that hold the turns, or the two of a turn's question and answer."""
    if layout.turns is not None:
        if not _is_turns(schema.field(layout.turns).type):
            raise UnsuitableColumns(
                f"--layout.turns {layout.turns}: is {schema.field(layout.turns).type}, not a list "
                "of {question, answer}, {from, value} or {role, content}"
            )
        return {"turns": layout.turns}
    if not (layout.question or layout.answer):
        for name in TURNS_COLUMNS:
            if name in schema.names and _is_turns(schema.field(name).type):
                return {"turns": name}
    pair = {"question": layout.question or "question", "answer": layout.answer or "answer"}
    if not {*pair.values()} <= {*schema.names}:
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise UnsuitableColumns(
            "no turns; name their column with --layout.turns, or two with --layout.question and "
            f"--layout.answer. The file has {columns}"
        )
    for name in pair.values():
        if pa.types.is_nested(schema.field(name).type):
            raise UnsuitableColumns(f"column {name} is {schema.field(name).type}, not text")
    return {**pair}


def _make_sample(
    row: int, row_values: dict[str, Any], chosen: dict[str, str | None], layout: Layout
) -> Sample:
    def value(name: str) -> Any:
        column = chosen.get(name)
        return None if column is None else row_values[column]

    image, error = value("image"), value("error")
    if error is not None and error_reason(error) == "no_turn":
        error = None  # that may be otherwise now
    if isinstance(image, dict):
        path = image.get("path")
        image = image["bytes"]
        if image is None and path is not None and error is None:
            error = f"no_image: the row names {path} and holds no bytes of it"
    turns = None
    if isinstance(layout, TurnsLayout):
        pair = [{name: value(name) for name in given_turns.TURN_FIELDS}]
        content = value("turns") if "turns" in chosen else pair
        turns = given_turns.read_turns(content, layout.history)
    if image is None and error is None:
        # Records of ours may have been written without their images.
        reason = "no_image" if turns is None or "image_id" in chosen else TEXT_ONLY
        error = f"{reason}: column {chosen['image']} is null"
    if turns is not None and error is None:
        error = given_turns.explain_no_turn(turns)
    key, caption, meta = (value(name) for name in ("key", "caption", "meta"))
    image_id = value("image_id")
    return Sample(
        key=f"{row:08d}" if key is None else str(key),
        image=image,
        caption=None if caption is None else str(caption),
        meta=None if meta is None else str(meta),
        error=error,
        turns=turns,
        # A file that looks like our records may be a stranger's: its ids are no names of files.
        image_id=image_id if is_digest(image_id) else None,
        source=value("source"),
    )


def _read_keys(
    file: pq.ParquetFile, group: int, rows: int, column: str | None, first: int
) -> list[str]:
    numbers = [f"{row:08d}" for row in range(first, first + rows)]
    if column is None:
        return numbers
    values = file.read_row_group(group, columns=[column])[column].to_pylist()
    return [
        number if value is None else str(value)
        for number, value in zip(numbers, values, strict=True)
    ]


def _read_rows(file: pq.ParquetFile, start: int, end: int, columns: list[str]) -> pa.Table:
    """Rows [start, end) of these columns, from the row groups that hold them."""
    tables, first = [], 0
    for number in range(file.num_row_groups):
        last = first + file.metadata.row_group(number).num_rows
        if first < end and last > start:
            group = file.read_row_group(number, columns=columns)
            tables.append(group.slice(max(0, start - first), min(end, last) - max(start, first)))
        first = last
    return pa.concat_tables(tables)


def _is_damage(error: Exception) -> bool:
    """Whether the content is at fault: pyarrow says that with an OSError too, but with no errno."""
    return isinstance(error, pa.ArrowException) or getattr(error, "errno", None) is None


def _is_image(type_: pa.DataType) -> bool:
    if pa.types.is_struct(type_):
        names = [field.name for field in type_]
        return "bytes" in names and _is_image(type_.field("bytes").type)
    return pa.types.is_binary(type_) or pa.types.is_large_binary(type_)


def _is_turns(type_: pa.DataType) -> bool:
    if not (pa.types.is_list(type_) or pa.types.is_large_list(type_)):
        return False
    element = type_.value_type
    names = {field.name for field in element} if pa.types.is_struct(element) else set()
    return any(
        {*fields} <= names for fields in (given_turns.TURN_FIELDS, *given_turns.MESSAGE_FIELDS)
    )


def _is_text(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_)
