"""Parquet files that were made, or damaged, so that they harm whoever reads them."""

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inputs import read
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.formats import parquet
from c3l_ray.inputs.layout import Layout

NUM_FUZZED = 150


def read_all(path: Path) -> list[str | None]:
    """The error of each row of a file."""
    errors: list[str | None] = []
    for shard in find_shards((str(path),), Layout()):
        for unit in read.index_shard(shard, Layout()):
            table = read.read_unit(unit, Layout())
            assert table.num_rows == unit.rows
            errors += table["error"].to_pylist()
    return errors


@pytest.mark.timeout(60)
@pytest.mark.parametrize("column", ["nulls", "one value, many times"])
def test_rows_that_unpack_without_end_are_one_damage(column: str, tmp_path: Path) -> None:
    num_rows = 5_000_000
    if column == "nulls":
        images = pa.nulls(num_rows, pa.binary())
    else:
        numbers = pa.array([0], pa.int8()).take(pa.nulls(num_rows, pa.int64()).fill_null(0))
        images = pa.DictionaryArray.from_arrays(numbers, pa.array([b"x" * 1000]))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": images}), path, compression="zstd")
    (error,) = read_all(path)
    assert error is not None and error.startswith("damaged_shard: a.parquet at row 0: 5,000,000 ")


def test_a_file_of_many_rows_that_has_their_bytes_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "FEW_ROWS", 10)
    pq.write_table(
        pa.table({"image": [f"image {n}".encode() for n in range(20)]}), tmp_path / "a.parquet"
    )
    assert read_all(tmp_path / "a.parquet") == [None] * 20


def test_a_file_that_ends_early_has_a_failed_row_for_each_row_that_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"image": [b"x"] * 5}), tmp_path / "a.parquet")
    batches = [pa.record_batch({"image": [b"x"] * 3})]
    monkeypatch.setattr(parquet, "_read_batches", lambda *_: iter(batches))
    errors = read_all(tmp_path / "a.parquet")
    assert errors[:3] == [None] * 3
    assert errors[3:] == [
        f"damaged_shard: a.parquet row {row}: the file ends before row 3" for row in (3, 4)
    ]


@pytest.mark.parametrize("place", ["a name", "a number"])
def test_what_pyarrow_raises_of_no_kind_of_its_own_is_a_damage(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: Exception = ValueError("a number that is none")
    if place == "a name":
        raised = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    def fail(*_: object) -> None:
        raise raised

    pq.write_table(pa.table({"image": [b"x"] * 2}), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet, "_read_batches", fail)
    assert [str(error).partition(" row")[0] for error in read_all(tmp_path / "a.parquet")] == [
        "damaged_shard: a.parquet"
    ] * 2


def test_no_fuzzed_file_ends_in_anything_but_rows_or_a_refusal(tmp_path: Path) -> None:
    columns = {
        "image": [bytes([n]) * 50 for n in range(100)],
        "caption": [f"\xe4 {n}" for n in range(100)],
    }
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=40)
    whole = path.read_bytes()
    chance = random.Random(0)
    outcomes = set()
    for _ in range(NUM_FUZZED):
        content = bytearray(whole)
        for _ in range(chance.choice([1, 2, 5, 20])):
            content[chance.randrange(len(content))] = chance.choice([0, 127, 128, 255])
        path.write_bytes(content)
        try:
            outcomes.add("damaged" if any(read_all(path)) else "read")
        except PreflightError:
            outcomes.add("refused")
    assert outcomes == {"damaged", "read", "refused"}
