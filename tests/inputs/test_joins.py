from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray.config import Layout
from c3l_ray.inputs import joins, read
from c3l_ray.runs.folder import Output
from c3l_ray.inputs.joins import join
from c3l_ray.inputs.units import Unit
from c3l_ray.schema import STAGED_ROWS


def write(folder: Path, sizes: list[int], first: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    for number, size in enumerate(sizes, start=first):
        images = pa.array([f"{number} {row}".encode() for row in range(size)], pa.binary())
        pq.write_table(pa.table({"image": images}), folder / f"{number:04d}.parquet")


def planned(folder: Path, output: Output) -> list[Unit]:
    found = read.find_shards((str(folder),), Layout())
    return join([unit for shard in found for unit in read.index(shard, Layout())], output)


def images(units: list[Unit]) -> list[bytes]:
    found = []
    for unit in units:
        table = read.read(unit, Layout())
        assert table.schema.equals(STAGED_ROWS) and table.num_rows == unit.rows
        assert set(table["unit"].to_pylist()) == {unit.name}
        found += table["image"].to_pylist()
    return found


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(str(tmp_path / "run"))


def test_small_files_are_joined_up_to_the_bounds_and_nothing_is_lost(
    tmp_path: Path, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [10] * 40 + [300] + [63, 64] + [0]
    write(tmp_path / "in", sizes)
    units = planned(tmp_path / "in", output)
    rows = sorted(unit.rows for unit in units)
    assert rows == [0, 63, 64, 194, 250, 256]
    expected = [f"{n} {row}".encode() for n, size in enumerate(sizes) for row in range(size)]
    assert sorted(images([unit for unit in units if unit.rows])) == sorted(expected)


def test_bytes_bound_a_join_too(
    tmp_path: Path, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joins, "JOINED_BYTES", 300)
    write(tmp_path / "in", [5] * 8)
    units = planned(tmp_path / "in", output)
    assert 1 < len(units) < 8 and all(unit.size <= 300 for unit in units)


def test_a_later_plan_joins_as_the_first_did_and_adds_what_is_new(
    tmp_path: Path, output: Output
) -> None:
    write(tmp_path / "in", [10] * 5, first=10)
    (before,) = planned(tmp_path / "in", output)
    assert planned(tmp_path / "in", output) == [before]
    write(tmp_path / "in", [10] * 3)  # they come earlier by name
    kept, added = planned(tmp_path / "in", output)
    assert kept == before and added.rows == 30
    assert len(set(images([kept, added]))) == 80


def test_of_two_plans_at_once_the_first_counts(
    tmp_path: Path, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in", [10] * 6)
    other = Output(output.path)
    units = [
        unit
        for shard in read.find_shards((str(tmp_path / "in"),), Layout())
        for unit in read.index(shard, Layout())
    ]
    note = Output.note_joins

    def late(self: Output, number: int, groups: list[list[str]]) -> bool:
        monkeypatch.setattr(Output, "note_joins", note)
        assert other.note_joins(number, [[units[0].name, units[1].name]])
        return note(self, number, groups)

    monkeypatch.setattr(Output, "note_joins", late)
    found = join(units, output)
    assert sorted(unit.rows for unit in found) == [20, 40]
    assert len(set(images(found))) == 60
