"""Parquet files with an image column: binary, or a struct with `bytes` as `datasets` writes it.

Where the layout asks for turns, a column of lists or two columns of text hold them. Records of ours
keep their ids, sources and failures.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray.config import Layout, TurnsLayout
from c3l_ray.data.formats import turns
from c3l_ray.data.units import End, Place, Sample, Shard, Unit
from c3l_ray.schema import RECORDS, TEXT_ONLY, reason

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "bytes")
CAPTION_COLUMNS = ("caption", "text", "txt")
KEY_COLUMNS = ("key", "__key__")
TURNS_COLUMNS = ("turns", "conversations", "messages")
OF_RECORDS = ("image_id", "source", "error")  # with turns and origin, what tells them from others


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
            table = _range(file, unit.start, unit.end, sorted({c for c in chosen.values() if c}))
    except (pa.ArrowException, OSError) as error:
        if not _is_damage(error):
            raise
        for row in range(unit.start, unit.end):
            why = f"damaged_shard: {unit.source} row {row}: {str(error).strip()}"
            yield Sample(key=f"{row:08d}", error=why)
        return
    for row, content in enumerate(table.to_pylist(), start=unit.start):
        yield _sample(row, content, chosen, layout)


def choose(schema: pa.Schema, layout: Layout) -> dict[str, str | None]:
    """The file's columns by what is in them: those named, else the usual ones.

    Raises:
        Unfit: a named column is missing, no column is an image or, where they are asked for, turns,
            or one has another type.
    """
    for flag in ("image", "caption", "key", "meta", "turns", "question", "answer"):
        name = getattr(layout, flag, None)
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

    chosen: dict[str, str | None] = {
        "image": image,
        "caption": text(layout.caption, CAPTION_COLUMNS),
        "meta": layout.meta,
        "key": text(layout.key, KEY_COLUMNS),
    }
    if isinstance(layout, TurnsLayout):
        chosen |= _choose_turns(schema, layout)
        if {*RECORDS.names} <= {*schema.names}:
            chosen |= {name: name for name in OF_RECORDS}
            chosen["meta"] = layout.meta or "meta"
    return chosen


def _choose_turns(schema: pa.Schema, layout: TurnsLayout) -> dict[str, str | None]:
    """The column of lists that hold the turns, or the two of a turn's question and answer."""
    if layout.turns is not None:
        if not _is_turns(schema.field(layout.turns).type):
            raise Unfit(
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
        there = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise Unfit(
            "no turns; name their column with --layout.turns, or two with --layout.question and "
            f"--layout.answer. The file has {there}"
        )
    for name in pair.values():
        if pa.types.is_nested(schema.field(name).type):
            raise Unfit(f"column {name} is {schema.field(name).type}, not text")
    return {**pair}


def _sample(
    row: int, content: dict[str, Any], chosen: dict[str, str | None], layout: Layout
) -> Sample:
    def value(name: str) -> Any:
        column = chosen.get(name)
        return None if column is None else content[column]

    image, error = value("image"), value("error")
    if error is not None and reason(error) == "no_turn":
        error = None  # that may be otherwise now
    if isinstance(image, dict):
        path = image.get("path")
        image = image["bytes"]
        if image is None and path is not None and error is None:
            error = f"no_image: the row names {path} and holds no bytes of it"
    said = None
    if isinstance(layout, TurnsLayout):
        pair = [{name: value(name) for name in turns.PAIRED}]
        said = turns.read(value("turns") if "turns" in chosen else pair, layout.history)
    if image is None and error is None:
        # Records of ours may have been written without their images.
        why = "no_image" if said is None or "image_id" in chosen else TEXT_ONLY
        error = f"{why}: column {chosen['image']} is null"
    if said is not None and error is None:
        error = turns.failure(said)
    key, caption, meta = (value(name) for name in ("key", "caption", "meta"))
    return Sample(
        key=f"{row:08d}" if key is None else str(key),
        image=image,
        caption=None if caption is None else str(caption),
        meta=None if meta is None else str(meta),
        error=error,
        turns=said,
        image_id=value("image_id"),
        source=value("source"),
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


def _is_turns(type_: pa.DataType) -> bool:
    if not (pa.types.is_list(type_) or pa.types.is_large_list(type_)):
        return False
    element = type_.value_type
    names = {field.name for field in element} if pa.types.is_struct(element) else set()
    return any({*form} <= names for form in (turns.PAIRED, *turns.SPOKEN))


def _is_text(type_: pa.DataType) -> bool:
    return pa.types.is_string(type_) or pa.types.is_large_string(type_)
