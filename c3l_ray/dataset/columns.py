"""Columns of a dataset: as Arrow, with what the datasets library reads of its own in them."""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from c3l_ray.methods.scores import SCORE_NAMES

IMAGES = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_TYPES = {pa.string(): "string", pa.float32(): "float32"}

_OF_TURN = [
    ("kind", pa.string()),
    *((name, pa.float32()) for name in SCORE_NAMES),
    ("turn_id", pa.string()),
    ("instruction", pa.string()),
    ("draft", pa.string()),
]
_OF_RECORD = [(name, pa.string()) for name in ("image_id", "source", "key", "caption", "meta")]


def _make_schema(fields: Sequence[tuple[str, pa.DataType]]) -> pa.Schema:
    """A schema with the features by which the datasets library decodes the images."""
    features = {name: _feature_of(type_) for name, type_ in fields}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(fields, metadata=metadata)


def _feature_of(type_: pa.DataType) -> Any:
    # A list of one feature is read by every release of the library, `List` by those from 4 on.
    if type_ == IMAGES:
        return [{"_type": "Image"}]
    if type_ == MESSAGES:
        return [{name: _feature_of(pa.string()) for name in ("role", "content")}]
    if pa.types.is_list(type_):
        return [_feature_of(type_.value_type)]
    return {"dtype": _TYPES[type_], "_type": "Value"}


def _make_conversation_schema(*, is_list: bool) -> pa.Schema:
    of_turn = [(name, pa.list_(type_) if is_list else type_) for name, type_ in _OF_TURN]
    return _make_schema(
        [("id", pa.string()), ("images", IMAGES), ("messages", MESSAGES), *of_turn, *_OF_RECORD]
    )


CONVERSATION_OF_TURN = _make_conversation_schema(is_list=False)
"""A row is a turn."""
CONVERSATION_OF_IMAGE = _make_conversation_schema(is_list=True)
"""A row is an image; the columns of turns are lists, an element for each."""
PREFERENCE = _make_schema(
    [
        ("id", pa.string()),
        ("images", IMAGES),
        ("prompt", MESSAGES),
        ("chosen", MESSAGES),
        ("rejected", MESSAGES),
        ("messages", MESSAGES),
        ("rejected_response", pa.string()),
        ("kind", pa.string()),
        ("pair", pa.string()),
        ("chosen_score", pa.float32()),
        ("rejected_score", pa.float32()),
        ("turn_id", pa.string()),
        ("instruction", pa.string()),
        *_OF_RECORD,
    ]
)
"""A row is a pair; `messages` and `rejected_response` are the pair as ms-swift reads it."""
