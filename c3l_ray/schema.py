"""The row, as Arrow: one image and its turns, from the shard it comes from to where it ends."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

VERSION = 2  # part of a row's origin: raise it when the meaning of a column changes


def _required(name: str, type_: pa.DataType) -> pa.Field:
    return pa.field(name, type_, nullable=False)


IMAGES = pa.schema(
    [
        _required("image_id", pa.string()),
        _required("key", pa.string()),
        _required("source", pa.string()),
        pa.field("image", pa.binary()),
        pa.field("caption", pa.string()),
        pa.field("meta", pa.string()),
    ]
)

# What each is and where it comes from stands in methods/i2c.py; `clip` is CLIP's cosine.
SCORE_NAMES = (
    "image_logprob",
    "min_logprob",
    "text_logprob",
    "gain",
    "gain_exp",
    "visual_ifd",
    "i2c",
    "i2c_logits",
    "i2c_probs",
    "i2c_vocab",
    "grounded_share",
    "flip_rate",
    "clip",
)
SCORES = pa.struct([pa.field(name, pa.float32()) for name in SCORE_NAMES])

# Of a turn that the model made: the first six. Of one that was made elsewhere also: a question that
# nobody answered, an answer that nobody asked for, and a turn that follows an unusable one.
TURN_STATUSES = (
    *("ok", "unparsable", "truncated", "empty", "duplicate", "refused"),
    *("unanswered", "unasked", "stranded"),
)
# The kinds of a turn that was made elsewhere; its `instruction` is the system message, else empty.
GIVEN = "given"  # it stands alone, or begins
FOLLOW_UP = "follow_up"  # it was asked, and is scored, after the usable turns before it in its row
# What the correction of an answer took: how it ended (one of methods.vigc.ENDINGS; "nothing" keeps
# the draft), the requests made, the tokens they generated, and the tokens of the corrected answer.
CORRECTION = pa.struct(
    [
        _required("ended", pa.string()),
        _required("requests", pa.int32()),
        _required("tokens", pa.int32()),
        _required("kept_tokens", pa.int32()),
    ]
)

TURN = pa.struct(
    [
        _required("kind", pa.string()),
        _required("instruction", pa.string()),
        pa.field("question", pa.string()),
        pa.field("answer", pa.string()),
        pa.field("draft", pa.string()),
        pa.field("correction", CORRECTION),
        pa.field("reply", pa.string()),
        _required("status", pa.string()),
        pa.field("finish", pa.string()),
        pa.field("num_tokens", pa.int32()),
        pa.field("scores", SCORES),
        pa.field("draft_scores", SCORES),
        pa.field("token_gain", pa.list_(pa.float32())),
    ]
)
TURNS = pa.list_(_required("element", TURN))

TEXT_ONLY = "text_only"  # a sample that was made without an image: kept, not scored, no failure
RECORD_STATUSES = ("ok", "failed", TEXT_ONLY)
RECORDS = pa.schema(
    [
        *IMAGES,
        _required("turns", TURNS),
        _required("status", pa.string()),
        pa.field("error", pa.string()),
        _required("origin", pa.string()),
    ]
)

# What flows between the stages: images, what the stages have filled in so far, and the unit they
# are one block of. `error` is null while the image is good. The seconds are the unit's, per stage.
FLOW = pa.schema(
    [
        *IMAGES,
        pa.field("turns", TURNS),
        pa.field("error", pa.string()),
        _required("unit", pa.string()),
        _required("unit_rows", pa.int32()),
        pa.field("generate_s", pa.float64()),
        pa.field("score_s", pa.float64()),
    ]
)


def conform(columns: Mapping[str, Sequence[Any] | pa.Array], schema: pa.Schema) -> pa.Table:
    """Columns as a table of exactly this schema.

    Columns that are not given are null; nulls in a required column are refused.

    Raises:
        ValueError: a column that the schema does not have, a null where none may be, or a value of
            another type; the message names the column.
    """
    unknown = sorted(set(columns) - set(schema.names))
    if unknown:
        raise ValueError(f"columns that the schema does not have: {', '.join(unknown)}")
    num_rows = len(next(iter(columns.values())))
    arrays = []
    for field in schema:
        values = columns.get(field.name, [None] * num_rows)
        try:
            array = values if isinstance(values, pa.Array) else pa.array(values, field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(f"column {field.name!r}: {error}") from error
        if not field.nullable and array.null_count:
            raise ValueError(f"column {field.name!r} may not be null")
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema)


def filled(table: pa.Table, **columns: Sequence[Any]) -> pa.Table:
    """The table with these columns of the schema it flows in replaced."""
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        field = table.schema.field(at)
        table = table.set_column(at, field, pa.array(values, field.type))
    return table


def reason(error: str) -> str:
    """The countable word that an error begins with."""
    return error.split(":", 1)[0]
