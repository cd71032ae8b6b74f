"""Which columns of a Parquet file hold the images, their turns and what belongs to them.

Columns are told by what is in them, as pyarrow, pandas, polars, DuckDB and datasets write it.
"""

from collections.abc import Callable

import pyarrow as pa

from c3l_ray.inputs.formats import given_turns
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.schema import RECORDS

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "bytes", "images")
CAPTION_COLUMNS = ("caption", "text", "txt")
KEY_COLUMNS = ("key", "__key__")
# What records of an earlier run keep, and rows of a dataset of jobs.select.
KEPT_OF_RECORDS = ("image_id", "source", "error")
DATASET_COLUMNS = {"images", "messages", "turn_id", "image_id", "source", "key", "caption", "meta"}
KEPT_OF_DATASETS = ("image_id", "source")

Columns = dict[str, str | None]
"""The column of each thing that a row has; None where there is none."""
IsSuitable = Callable[[pa.DataType], bool]


class UnsuitableColumns(Exception):
    """A file whose columns cannot be used; the message says which."""


def choose_columns(schema: pa.Schema, layout: Layout) -> Columns:
    """The file's columns by what is in them: those named, else the usual ones in any case.

    Raises:
        UnsuitableColumns: a named column is missing or has another type, no column holds images
            or, where the layout asks for them, turns, or two columns share a name.
    """
    for flag in ("image", "caption", "key", "meta", "turns", "question", "answer"):
        name = getattr(layout, flag, None)
        if name is not None and name not in schema.names:
            columns = ", ".join(schema.names)
            raise UnsuitableColumns(
                f"--layout.{flag} {name}: the file has no such column; it has {columns}"
            )
    image = layout.image or _find_column(schema, IMAGE_COLUMNS, is_image)
    if image is None:
        raise UnsuitableColumns(
            f"no image column; name it with --layout.image. The file has {_describe(schema)}"
        )
    type_ = _type_of(schema, image)
    if not is_image(type_):
        raise UnsuitableColumns(
            f"column {image} is {type_}, not binary, a struct of bytes or a list of these"
        )
    chosen: Columns = {
        "image": image,
        "caption": layout.caption or _find_column(schema, CAPTION_COLUMNS, _is_caption),
        "meta": layout.meta,
        "key": layout.key or _find_column(schema, KEY_COLUMNS, _is_text),
    }
    if isinstance(layout, TurnsLayout):
        chosen |= _choose_turns(schema, layout)
        if {*RECORDS.names} <= {*schema.names}:
            chosen |= {name: name for name in KEPT_OF_RECORDS}
            chosen["meta"] = layout.meta or "meta"
        elif chosen.get("turns") == "messages" and {*DATASET_COLUMNS} <= {*schema.names}:
            of_turns = [name for name in given_turns.FIELDS_OF_DATASETS if name in schema.names]
            chosen |= {name: name for name in (*KEPT_OF_DATASETS, *of_turns)}
            chosen["meta"] = layout.meta or "meta"
    for name in chosen.values():
        if name is not None:
            _type_of(schema, name)
    return chosen


def _choose_turns(schema: pa.Schema, layout: TurnsLayout) -> Columns:
    """The column of lists that hold the turns, or the two of a turn's question and answer."""
    if layout.turns is not None:
        type_ = _type_of(schema, layout.turns)
        if not (_is_turns(type_) or _is_text(type_)):
            raise UnsuitableColumns(
                f"--layout.turns {layout.turns}: is {type_}, not a list of {{question, answer}}, "
                "{from, value} or {role, content}, nor its JSON text"
            )
        return {"turns": layout.turns}
    if not (layout.question or layout.answer):
        name = _find_column(schema, given_turns.TURN_COLUMNS, _is_turns)
        # `texts` may also be captions.
        name = name or _find_column(schema, given_turns.TURN_COLUMNS[:-1], _is_text)
        if name is not None:
            return {"turns": name}
    pair: Columns = {"question": layout.question, "answer": layout.answer}
    if pair["question"] is None and pair["answer"] is None:
        by_small_name = {name.casefold(): name for name in reversed(schema.names)}
        if names := given_turns.find_pair(by_small_name):
            pair = {
                field: by_small_name[name]
                for field, name in zip(given_turns.TURN_FIELDS, names, strict=True)
            }
            if names[0] == "instruction" and "input" in by_small_name:
                pair["input"] = by_small_name["input"]
    else:
        pair = {field: name or field for field, name in pair.items()}
    if not {*pair.values()} <= {*schema.names}:
        raise UnsuitableColumns(
            "no turns; name their column with --layout.turns, or two with --layout.question and "
            f"--layout.answer. The file has {_describe(schema)}"
        )
    for name in pair.values():
        if name is not None and pa.types.is_nested(type_ := _type_of(schema, name)):
            raise UnsuitableColumns(f"column {name} is {type_}, not text")
    return pair


def _find_column(schema: pa.Schema, usual: tuple[str, ...], is_suitable: IsSuitable) -> str | None:
    """The first column of a usual name, in any case, and of a suitable type."""
    for usual_name in usual:
        names = [name for name in schema.names if name.casefold() == usual_name]
        # The name as it is usual comes before one in capitals.
        for name in sorted(names, key=lambda name: name != usual_name):
            if any(is_suitable(field.type) for field in _fields_of(schema, name)):
                return name
    return None


def _type_of(schema: pa.Schema, name: str) -> pa.DataType:
    fields = _fields_of(schema, name)
    if len(fields) > 1:
        raise UnsuitableColumns(
            f"{len(fields)} columns are named {name}; rename all but the one that is to be read"
        )
    return fields[0].type


def _fields_of(schema: pa.Schema, name: str) -> list[pa.Field]:
    return [schema.field(number) for number in schema.get_all_field_indices(name)]


def _describe(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _value_type(type_: pa.DataType) -> pa.DataType:
    """The type of the values where they are categories."""
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def is_list(type_: pa.DataType) -> bool:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(type_) for is_kind in kinds)


def is_image(type_: pa.DataType) -> bool:
    """Whether a column of this type may hold images: bytes, a struct with them, a list of these."""
    if is_list(type_):
        return not is_list(type_.value_type) and is_image(type_.value_type)
    if pa.types.is_struct(type_):
        names = [field.name for field in type_]
        return "bytes" in names and _is_binary(type_.field("bytes").type)
    return _is_binary(type_)


def _is_binary(type_: pa.DataType) -> bool:
    type_ = _value_type(type_)
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(is_kind(type_) for is_kind in kinds)


def _is_text(type_: pa.DataType) -> bool:
    type_ = _value_type(type_)
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(type_) for is_kind in kinds) or _is_binary(type_)


def _is_caption(type_: pa.DataType) -> bool:
    return _is_text(type_) or (is_list(type_) and _is_text(type_.value_type))


def _is_turns(type_: pa.DataType) -> bool:
    if not is_list(type_):
        return False
    element = type_.value_type
    if pa.types.is_map(element):
        return _is_text(element.key_type)
    names = {field.name for field in element} if pa.types.is_struct(element) else set()
    return given_turns.find_pair(names) is not None or any(
        {*fields} <= names for fields in given_turns.MESSAGE_FIELDS
    )
