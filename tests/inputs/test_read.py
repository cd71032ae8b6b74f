from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray.inputs import read
from c3l_ray.inputs.formats import parquet
from c3l_ray.inputs.joins import join_small_units
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.units import Sample, SampleStart, Unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes.world import write_shard
from c3l_ray.storage import Location
from tests.inputs.shards import (
    DEFAULT_LAYOUT,
    find_only_shard,
    find_shards,
    index_only_shard,
    read_rows,
)


def test_ids_come_from_place_and_key_and_not_from_the_root(tmp_path: Path) -> None:
    for root in ("here", "there"):
        (tmp_path / root / "deep").mkdir(parents=True)
        write_shard(tmp_path / root / "deep" / "a.tar", [("1.jpg", b"x"), ("2.jpg", b"y")])
    here, there = read_rows(tmp_path / "here"), read_rows(tmp_path / "there")
    assert [row["image_id"] for row in here] == [row["image_id"] for row in there]
    assert len({row["image_id"] for row in here}) == 2
    assert here[0]["source"] == "deep/a.tar"


def test_repeated_keys_have_ids_of_their_own_also_across_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "UNIT_ROWS", 2)
    members = [("1.jpg", b"a"), ("2.jpg", b"b"), ("1.jpg", b"c"), ("1.jpg", b"d"), ("2.jpg", b"e")]
    write_shard(tmp_path / "a.tar", members)
    rows = read_rows(tmp_path)
    assert [row["image"] for row in rows] == [content for _, content in members]
    assert len({row["image_id"] for row in rows}) == 5


@pytest.mark.parametrize(("unit_rows", "unit_bytes"), [(3, 10**9), (10**9, 5000), (1, 1)])
def test_cutting_into_units_changes_nothing_but_the_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit_rows: int, unit_bytes: int
) -> None:
    members = [
        (f"{i:03d}.{extension}", bytes([i]) * size)
        for i in range(10)
        for extension, size in (("jpg", 700 * i), ("txt", 5))
    ]
    write_shard(tmp_path / "a.tar", members)
    uncut_rows = read_rows(tmp_path)
    monkeypatch.setattr(read, "UNIT_ROWS", unit_rows)
    monkeypatch.setattr(read, "UNIT_BYTES", unit_bytes)
    units = index_only_shard(tmp_path)
    assert len(units) > 1
    assert [unit.end for unit in units[:-1]] == [unit.start for unit in units[1:]]
    cut_rows = read_rows(tmp_path)
    for row in (*uncut_rows, *cut_rows):
        del row["unit"], row["unit_rows"]
    assert cut_rows == uncut_rows


def test_the_same_key_in_two_shards_is_two_images(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_shard(tmp_path / name, [("1.jpg", b"x")])
    ids = {
        row["image_id"]
        for shard in find_shards(tmp_path)
        for unit in read.index_shard(shard, DEFAULT_LAYOUT)
        for row in read.read_unit(unit, DEFAULT_LAYOUT).to_pylist()
    }
    assert len(ids) == 2


def test_s3_reads_as_a_local_path_does(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "UNIT_ROWS", 2)
    (tmp_path / "deep").mkdir()
    write_shard(tmp_path / "deep" / "a.tar", [(f"{i}.jpg", b"x" * 900 * i) for i in range(5)])
    (Location.connect(s3) / "deep" / "a.tar").write((tmp_path / "deep" / "a.tar").read_bytes())
    assert find_only_shard(s3).path == f"{s3}/deep/a.tar"
    rows_on_s3, local_rows = (
        [read.read_unit(unit, DEFAULT_LAYOUT).to_pylist() for unit in index_only_shard(folder)]
        for folder in (s3, tmp_path)
    )
    assert rows_on_s3 == local_rows


def test_a_part_of_a_unit_that_raises_fails_alone_and_keeps_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        pq.write_table(pa.table({"image": [b"x"] * 2}), tmp_path / f"{number}.parquet")
    folder = RunFolder.open(str(tmp_path / "run"))
    shards = find_shards(f"{tmp_path}/*.parquet")
    (joined,) = join_small_units(
        [unit for shard in shards for unit in read.index_shard(shard, Layout())], folder
    )
    read_samples = parquet.read_samples

    def stumble(location: Location, unit: Unit, layout: Layout) -> Iterator[Sample]:
        if location.name == "1.parquet":
            raise KeyError("what nobody expected")
        return read_samples(location, unit, layout)

    monkeypatch.setattr(parquet, "read_samples", stumble)
    with pytest.raises(KeyError):
        read.read_unit(joined, Layout())
    failures: list[tuple[Unit, Exception]] = []
    table = read.read_unit(joined, Layout(), failures)
    assert [unit.source for unit, _ in failures] == ["1.parquet"]
    fault = "exception: KeyError: 'what nobody expected'"
    assert table["error"].to_pylist() == [None, None, fault, fault, None, None]
    assert table["unit"].to_pylist() == [joined.name] * 6
    assert len(set(table["image_id"].to_pylist())) == 6


def test_a_reader_that_returns_too_few_samples_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"image": [b"x"] * 2}), tmp_path / "a.parquet")
    (shard,) = find_shards(f"{tmp_path}/a.parquet")
    (unit,) = read.index_shard(shard, Layout())
    monkeypatch.setattr(parquet, "read_samples", lambda *_: iter([Sample(key="a", image=b"x")]))
    failures: list[tuple[Unit, Exception]] = []
    errors = read.read_unit(unit, Layout(), failures)["error"].to_pylist()
    assert errors == ["exception: ValueError: 1 samples where indexing found 2"] * 2


def test_a_shard_that_cannot_be_indexed_is_one_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Iterator[SampleStart]:
        yield SampleStart(key="a", start=0, position=0)
        raise KeyError("what nobody expected")

    pq.write_table(pa.table({"image": [b"x"] * 2}), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet, "find_samples", fail)
    (row,) = read_rows(tmp_path / "a.parquet")
    fault = "its begin: KeyError: 'what nobody expected'"
    assert row["error"] == f"damaged_shard: a.parquet at {fault}"

    def lose_storage(*_: object) -> Iterator[SampleStart]:
        raise ConnectionError("the storage is away")

    monkeypatch.setattr(parquet, "find_samples", lose_storage)
    with pytest.raises(ConnectionError):
        index_only_shard(tmp_path / "a.parquet")
