"""The schema, and the worked example that it and its readers are checked against."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray import schema
from c3l_ray.evaluation.judgement import judged
from c3l_ray.schema import STAGED_ROWS, IMAGES, RECORDS, conform, replace_columns, error_reason

RECORD: dict[str, Any] = json.loads((Path(__file__).parent / "record.json").read_text())


def table() -> pa.Table:
    return conform({name: [value] for name, value in RECORD.items()}, RECORDS)


def test_the_example_is_a_record_through_parquet() -> None:
    buffer = io.BytesIO()
    pq.write_table(table(), buffer)
    read = pq.read_table(buffer)
    assert read.schema.equals(RECORDS)
    assert read.to_pylist() == [RECORD]


def test_the_example_names_every_field() -> None:
    assert list(RECORD) == RECORDS.names
    assert list(RECORD["turns"][0]) == [field.name for field in schema.TURN]
    assert tuple(RECORD["turns"][0]["scores"]) == schema.SCORE_NAMES
    assert {turn["status"] for turn in RECORD["turns"]} <= set(schema.TURN_STATUSES)
    assert RECORD["status"] in schema.RECORD_STATUSES


def test_the_example_is_judged() -> None:
    assert [each.truth for each in judged([table()])] == ["true"]


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
def test_what_does_not_conform_names_the_column(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conform(columns, IMAGES)


def test_filled_replaces_columns_and_keeps_the_schema() -> None:
    given = {"image_id": ["a"], "key": ["k"], "source": ["s"], "unit": ["u"], "unit_rows": [1]}
    flow = replace_columns(conform(given, STAGED_ROWS), error=["no_turn: empty"], score_s=[0.5])
    assert flow.schema.equals(STAGED_ROWS)
    assert flow["error"].to_pylist() == ["no_turn: empty"]


def test_the_reason_is_the_word_before_the_colon() -> None:
    assert error_reason("undecodable: OSError: truncated") == "undecodable"
