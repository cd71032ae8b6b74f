"""The row: one image and its turns, from the shard it comes from to where it ends.

Each structure stands here twice: as Arrow, in which it is stored and moved, and as the dictionary
that `to_pylist` makes of it. `tests/test_schema.py` holds the two to each other.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict

import pyarrow as pa

from c3l_ray.methods.scores import SCORE_NAMES

VERSION = 5  # part of a row's origin: raise it when a column's name or meaning changes

TurnStatus = Literal[
    "ok",
    # of a turn that the model wrote
    "unparsable",
    "truncated",
    "thought",
    "empty",
    "duplicate",
    "refused",
    # of one that the scoring model cannot read as it is
    "special_tokens",
    "altered_by_template",
    "too_long",
    # of one that the scoring model failed on
    "unscored",
    # of one that was made elsewhere
    "missing_answer",
    "missing_question",
    "broken_history",
]
RecordStatus = Literal["ok", "failed", "text_only"]
TEXT_ONLY: RecordStatus = "text_only"  # a sample without an image: kept, not scored, no failure

# Of an error: what nobody expected of a row. Both are bounded, since the row may not be at fault.
FATAL = "fatal"  # the row kills its process
EXCEPTION = "exception"  # the row raises one

# The kinds of a turn that was made elsewhere; its `instruction` is the system message, else empty.
GIVEN = "given"  # it stands alone, or begins a conversation
FOLLOW_UP = "follow_up"  # it was asked, and is scored, after the usable turns before it in its row


class Scores(TypedDict):
    """What each is stands in `methods.scores`; null where it is not defined for the answer."""

    image_logprob: float | None
    min_logprob: float | None
    text_logprob: float | None
    posed_logprob: float | None
    gain: float | None
    gain_exp: float | None
    visual_ifd: float | None
    i2c: float | None
    i2c_logits: float | None
    i2c_probs: float | None
    i2c_vocab: float | None
    grounded_share: float | None
    flip_rate: float | None
    grounding: float | None
    clip: float | None


class CorrectionCost(TypedDict):
    """How the correction of an answer ended, and what it took.

    `outcome` is one of `methods.vigc.OUTCOMES`; "no_sentence" keeps the draft. `num_requests` were
    made, which generated `generated_tokens`; the corrected answer has `kept_tokens`.
    """

    outcome: str
    num_requests: int
    generated_tokens: int
    kept_tokens: int


class Alternative(TypedDict):
    """Another answer to a turn's question, sampled after the question had been posed.

    Attributes:
        answer: its text; equal texts of one status are one alternative. Where none could be read,
            what the model wrote; of status "refused" the engine's message.
        num_samples: how many of the answers sampled to the question were this text.
        status: whether it can be used, and if not why, as of a turn.
        scores: of the answer, as of a turn's; null where it is not scored.
    """

    answer: str
    num_samples: int
    status: TurnStatus
    scores: NotRequired[Scores | None]


class Turn(TypedDict):
    """A question about an image and its answer.

    Attributes:
        kind: of question, such as "detail"; GIVEN or FOLLOW_UP where it was made elsewhere.
        instruction: that the model was given with the image.
        question: that was read from the reply; null where none could be.
        answer: the same; where there is a draft, what took its place.
        draft: the answer before its correction, or before a better alternative took its place.
        correction: how the correction went; null where there was none.
        reply: what the model wrote, kept where it is no good turn.
        thought: what the model wrote between marks of thoughts before its reply, or null.
        status: whether the turn can be used, and if not why.
        finish_reason: why the reply ended: "stop", or "length" where it was cut.
        num_tokens: generated for the turn, those of its correction and alternatives included.
        scores: of the answer.
        draft_scores: of the draft.
        token_gains: ln p_t - ln r_t of each of the answer's tokens, where it was asked for.
        alternatives: more answers to the question, where they were asked for; the turn's own
            answer is among them only where it was sampled again.
    """

    kind: str
    instruction: str
    status: TurnStatus
    question: NotRequired[str | None]
    answer: NotRequired[str | None]
    draft: NotRequired[str | None]
    correction: NotRequired[CorrectionCost | None]
    reply: NotRequired[str | None]
    thought: NotRequired[str | None]
    finish_reason: NotRequired[str | None]
    num_tokens: NotRequired[int | None]
    scores: NotRequired[Scores | None]
    draft_scores: NotRequired[Scores | None]
    token_gains: NotRequired[list[float | None] | None]
    alternatives: NotRequired[list[Alternative] | None]


class Record(TypedDict):
    """An image with its turns.

    Attributes:
        image_id: the same wherever the data lies.
        key: its name in its shard.
        source: the shard, relative to the input.
        image: the bytes as they were found; null where they were not kept.
        caption: the text beside the image.
        meta: the JSON beside it, as it was found.
        turns: about it.
        status: "failed" where the image or every turn is of no use.
        error: why, beginning with a countable word.
        origin: the digest of what defines the row's content.
    """

    image_id: str
    key: str
    source: str
    image: bytes | None
    caption: str | None
    meta: str | None
    turns: list[Turn]
    status: RecordStatus
    error: str | None
    origin: str


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
SCORES = pa.struct([pa.field(name, pa.float32()) for name in SCORE_NAMES])
CORRECTION = pa.struct(
    [
        _required("outcome", pa.string()),
        _required("num_requests", pa.int32()),
        _required("generated_tokens", pa.int32()),
        _required("kept_tokens", pa.int32()),
    ]
)
ALTERNATIVE = pa.struct(
    [
        _required("answer", pa.string()),
        _required("num_samples", pa.int32()),
        _required("status", pa.string()),
        pa.field("scores", SCORES),
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
        pa.field("thought", pa.string()),
        _required("status", pa.string()),
        pa.field("finish_reason", pa.string()),
        pa.field("num_tokens", pa.int32()),
        pa.field("scores", SCORES),
        pa.field("draft_scores", SCORES),
        pa.field("token_gains", pa.list_(pa.float32())),
        pa.field("alternatives", pa.list_(_required("element", ALTERNATIVE))),
    ]
)
TURNS = pa.list_(_required("element", TURN))
RECORDS = pa.schema(
    [
        *IMAGES,
        _required("turns", TURNS),
        _required("status", pa.string()),
        pa.field("error", pa.string()),
        _required("origin", pa.string()),
    ]
)

# A row on its way through the stages: the image, what they have filled in so far, and the unit that
# it is part of. `error` is null while the image is good; the seconds are the unit's, per stage;
# `scoring` is "packed" or "plain"; `faults` is what scoring failed with on some of the row's turns;
# `notes` is what the processes that worked on the unit want the user to know.
STAGED_ROWS = pa.schema(
    [
        *IMAGES,
        pa.field("turns", TURNS),
        pa.field("error", pa.string()),
        _required("unit", pa.string()),
        _required("unit_rows", pa.int32()),
        pa.field("generate_s", pa.float64()),
        pa.field("score_s", pa.float64()),
        pa.field("scoring", pa.string()),
        pa.field("faults", pa.list_(pa.string())),
        pa.field("notes", pa.list_(pa.string())),
    ]
)


def conform(
    columns: Mapping[str, Sequence[Any] | pa.Array | pa.ChunkedArray], schema: pa.Schema
) -> pa.Table:
    """Columns as a table of exactly this schema.

    Chunks stay as they are: no single array holds over 2 GiB of bytes. Columns that are not given
    are null; nulls in a required column are refused.

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
            if isinstance(values, pa.Array | pa.ChunkedArray):
                array = values
            else:
                array = pa.array(values, field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(f"column {field.name!r}: {error}") from error
        if not field.nullable and array.null_count:
            raise ValueError(f"column {field.name!r} may not be null")
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema)


def replace_columns(table: pa.Table, **columns: Sequence[Any]) -> pa.Table:
    """The table with these columns' values replaced; their types stay."""
    for name, values in columns.items():
        number = table.schema.get_field_index(name)
        field = table.schema.field(number)
        table = table.set_column(number, field, pa.array(values, field.type))
    return table


def error_reason(error: str) -> str:
    """The countable word that an error begins with."""
    return error.split(":", 1)[0]
