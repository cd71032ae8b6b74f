"""The schema, and the worked example that it and its readers are checked against."""

import io
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray import schema
from c3l_ray.evaluation.judgement import judge_turns
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.schema import IMAGES, RECORDS, STAGED_ROWS, conform, error_reason, replace_columns
from tests.examples import RECORD

ARROW_TYPES = {str: pa.string(), bytes: pa.binary(), int: pa.int32(), float: pa.float32()}


def make_table() -> pa.Table:
    return conform({name: [value] for name, value in RECORD.items()}, RECORDS)


def split_null(hint: Any) -> tuple[Any, bool]:
    """A type without None, and whether None was part of it."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    (type_,) = (member for member in members if member is not type(None))
    return type_, type(None) in members


def find_differences(typed_dict: Any, fields: Iterable[pa.Field], path: str = "") -> list[str]:
    """Where a TypedDict and the fields of an Arrow struct do not say the same."""
    hints, arrow_fields = get_type_hints(typed_dict), {field.name: field for field in fields}
    differences = [f"{path}: names"] if hints.keys() != arrow_fields.keys() else []
    for name in hints.keys() & arrow_fields.keys():
        type_, may_be_null = split_null(hints[name])
        field = arrow_fields[name]
        if may_be_null != field.nullable:
            differences.append(f"{path}.{name}: null")
        if not may_be_null and name not in typed_dict.__required_keys__:
            differences.append(f"{path}.{name}: required")
        differences += find_differences_of_type(type_, field.type, f"{path}.{name}")
    return differences


def find_differences_of_type(hint: Any, type_: pa.DataType, path: str) -> list[str]:
    if is_typeddict(hint):
        return find_differences(hint, type_, path)
    if get_origin(hint) is list:
        element, _ = split_null(get_args(hint)[0])
        return find_differences_of_type(element, type_.value_type, path)
    is_same = ARROW_TYPES[str if get_origin(hint) is Literal else hint] == type_
    return [] if is_same else [f"{path}: {hint} is no {type_}"]


@pytest.mark.parametrize(
    ("typed_dict", "fields"),
    [
        (schema.Record, RECORDS),
        (schema.Turn, schema.TURN),
        (schema.Scores, schema.SCORES),
        (schema.CorrectionCost, schema.CORRECTION),
    ],
)
def test_typed_dicts_and_arrow_agree_field_by_field(
    typed_dict: Any, fields: Iterable[pa.Field]
) -> None:
    assert find_differences(typed_dict, fields) == []


def test_a_difference_between_typed_dict_and_arrow_is_seen() -> None:
    fields = [*list(schema.CORRECTION)[1:], pa.field("extra", pa.string())]
    assert find_differences(schema.CorrectionCost, fields)[0] == ": names"
    changed = [field.with_type(pa.int64()).with_nullable(True) for field in schema.CORRECTION]
    assert len(find_differences(schema.CorrectionCost, changed)) == 2 * len(changed)


def test_the_example_is_a_record_through_parquet() -> None:
    buffer = io.BytesIO()
    pq.write_table(make_table(), buffer)
    read = pq.read_table(buffer)
    assert read.schema.equals(RECORDS)
    assert read.to_pylist() == [RECORD]


def test_the_example_names_every_field() -> None:
    assert list(RECORD) == RECORDS.names
    assert list(RECORD["turns"][0]) == [field.name for field in schema.TURN]
    assert tuple(RECORD["turns"][0]["scores"]) == SCORE_NAMES
    assert {turn["status"] for turn in RECORD["turns"]} <= {*get_args(schema.TurnStatus)}
    assert RECORD["status"] in get_args(schema.RecordStatus)


def test_the_example_is_judged() -> None:
    assert [turn.truth for turn in judge_turns([make_table()])] == ["true"]


def test_absent_columns_are_null() -> None:
    row = conform({"image_id": ["a"], "key": ["k"], "source": ["s"]}, IMAGES).to_pylist()[0]
    assert row["image"] is None and row["caption"] is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image_id": ["a"], "key": ["k"]}, "'source' may not be null"),
        ({"image_id": ["a"], "key": [None], "source": ["s"]}, "'key' may not be null"),
        ({"image_id": ["a"], "key": ["k"], "source": ["s"], "extra": [1]}, "not have: extra"),
        ({"image_id": [1], "key": ["k"], "source": ["s"]}, "'image_id'"),
    ],
)
def test_columns_that_do_not_conform_are_named(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conform(columns, IMAGES)


def test_replaced_columns_keep_the_schema() -> None:
    columns = {"image_id": ["a"], "key": ["k"], "source": ["s"], "unit": ["u"], "unit_rows": [1]}
    staged = conform(columns, STAGED_ROWS)
    staged = replace_columns(staged, error=["no_turn: empty"], score_s=[0.5], notes=[["slow"]])
    assert staged.schema.equals(STAGED_ROWS)
    assert staged["error"].to_pylist() == ["no_turn: empty"]


def test_the_reason_is_the_word_before_the_colon() -> None:
    assert error_reason("undecodable: OSError: truncated") == "undecodable"
