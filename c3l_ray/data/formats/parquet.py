"""Parquet files with an image column: binary, or a struct with `bytes` as `datasets` writes it."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray.config import Layout
from c3l_ray.data.units import End, Place, Sample, Shard, Unit

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "bytes")
CAPTION_COLUMNS = ("caption", "text", "txt")
KEY_COLUMNS = ("key", "__key__")


class Unfit(Exception):
    """A file whose columns cannot be used; the message says which."""


def walk(fs: Any, path: str, shard: Shard, layout: Layout) -> Iterator[Place | End]:
    """The rows of a file, then its end; a row's position is its share of its row group's bytes."""
    row = position = 0
    try:
        with fs.open(path, "rb") as opened:
            file = pq.ParquetFile(opened)
            chosen = choose(file.schema_arrow, layout)
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                keys = _keys(file, number, group.num_rows, chosen["key"], row)
                for place, key in enumerate(keys):
                    before = group.total_byte_size * place // max(1, group.num_rows)
                    yield Place(key=key, start=row + place, position=position + before)
                row += group.num_rows
                position += group.total_byte_size
    except (pa.ArrowException, OSError, Unfit) as error:
        if not (isinstance(error, Unfit) or _is_damage(error)):
            raise
        yield End(end=row, position=position, damage=f"row {row}: {str(error).strip()}")
    else:
        yield End(end=row, position=position)


def read(fs: Any, path: str, unit: Unit, layout: Layout) -> Iterator[Sample]:
    """The rows of a unit's range."""
    rows = unit.end - unit.start
    if not rows:
        return
    try:
        with fs.open(path, "rb") as opened:
            file = pq.ParquetFile(opened)
            chosen = choose(file.schema_arrow, layout)
            table = _range(file, unit.start, unit.end, [c for c in chosen.values() if c])
    except (pa.ArrowException, OSError) as error:
        if not _is_damage(error):
            raise
        for row in range(unit.start, unit.end):
            why = f"damaged_shard: {unit.source} row {row}: {str(error).strip()}"
            yield Sample(key=f"{row:08d}", error=why)
        return
    for row, content in enumerate(table.to_pylist(), start=unit.start):
        yield _sample(row, content, chosen)


def choose(schema: pa.Schema, layout: Layout) -> dict[str, str | None]:
    """The file's columns for image, caption, meta and key: those named, else the usual ones.

    Raises:
        Unfit: a named column is missing, no column is an image, or one has another type.
    """
    for flag in ("image", "caption", "key", "meta"):
        name = getattr(layout, flag)
        if name is not None and name not in schema.names:
            there = ", ".join(schema.names)
            raise Unfit(f"--layout.{flag} {name}: the file has no such column; it has {there}")
    usual = [n for n in IMAGE_COLUMNS if n in schema.names and _is_image(schema.field(n).type)]
    image = layout.image or next(iter(usual), None)
    if image is None:
        there = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise Unfit(f"no image column; name it with --layout.image. The file has {there}")
    if not _is_image(schema.field(image).type):
        raise Unfit(f"column {image} is {schema.field(image).type}, not binary or struct of bytes")

    def text(name: str | None, names: tuple[str, ...]) -> str | None:
        if name is not None:
            return name
        return next(
            (n for n in names if n in schema.names and _is_text(schema.field(n).type)), None
        )

    return {
        "image": image,
        "caption": text(layout.caption, CAPTION_COLUMNS),
        "meta": layout.meta,
        "key": text(layout.key, KEY_COLUMNS),
    }


def _sample(row: int, content: dict[str, Any], chosen: dict[str, str | None]) -> Sample:
    def value(name: str) -> Any:
        column = chosen[name]
        return None if column is None else content[column]

    image, error = value("image"), None
    if isinstance(image, dict):
        path = image.get("path")
        image = image["bytes"]
        if image is None and path is not None:
            error = f"no_image: the row names {path} and holds no bytes of it"
    if image is None and error is None:
        error = f"no_image: column {chosen['image']} is null"
    key, caption, meta = (value(name) for name in ("key", "caption", "meta"))
    return Sample(
        key=f"{row:08d}" if key is None else str(key),
        image=image,
        caption=None if caption is None else str(caption),
        meta=None if meta is None else str(meta),
        error=error,
    )


def _keys(file: pq.ParquetFile, group: int, rows: int, column: str | None, first: int) -> list[str]:
    numbers = [f"{row:08d}" for row in range(first, first + rows)]
    if column is None:
        return numbers
    values = file.read_row_group(group, columns=[column])[column].to_pylist()
    return [
        number if value is None else str(value)
        for number, value in zip(numbers, values, strict=True)
    ]


def _range(file: pq.ParquetFile, start: int, end: int, columns: list[str]) -> pa.Table:
    """Rows [start, end) of these columns, from the row groups that hold them."""
    parts, first = [], 0
    for number in range(file.num_row_groups):
        last = first + file.metadata.row_group(number).num_rows
        if first < end and last > start:
            part = file.read_row_group(number, columns=columns)
            parts.append(part.slice(max(0, start - first), min(end, last) - max(start, first)))
        first = last
    return pa.concat_tables(parts)


def _is_damage(error: Exception) -> bool:
    """Whether the content is at fault: pyarrow says that with an OSError too, but with no errno."""
    return isinstance(error, pa.ArrowException) or getattr(error, "errno", None) is None


def _is_image(type_: pa.DataType) -> bool:
    if pa.types.is_struct(type_):
        names = [field.name for field in type_]
        return "bytes" in names and _is_image(type_.field("bytes").type)
    return pa.types.is_binary(type_) or pa.types.is_large_binary(type_)


def _is_text(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_)
