from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray.inputs import joins
from c3l_ray.inputs.index import write_joins
from c3l_ray.inputs.joins import join_small_units
from c3l_ray.inputs.read import index_shard, read_unit
from c3l_ray.inputs.units import Unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import STAGED_ROWS
from tests.inputs.shards import DEFAULT_LAYOUT, find_shards


def write_files(path: Path, sizes: list[int], first: int = 0) -> None:
    path.mkdir(exist_ok=True)
    for number, size in enumerate(sizes, start=first):
        images = pa.array([f"{number} {row}".encode() for row in range(size)], pa.binary())
        pq.write_table(pa.table({"image": images}), path / f"{number:04d}.parquet")


def index_files(path: Path) -> list[Unit]:
    shards = find_shards(path)
    return [unit for shard in shards for unit in index_shard(shard, DEFAULT_LAYOUT)]


def read_images(units: list[Unit]) -> list[bytes]:
    images = []
    for unit in units:
        table = read_unit(unit, DEFAULT_LAYOUT)
        assert table.schema.equals(STAGED_ROWS) and table.num_rows == unit.rows
        assert set(table["unit"].to_pylist()) == {unit.name}
        images += table["image"].to_pylist()
    return images


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.open(str(tmp_path / "run"))


def test_small_files_are_joined_up_to_the_bounds_and_nothing_is_lost(
    tmp_path: Path, folder: RunFolder
) -> None:
    sizes = [10] * 40 + [300] + [63, 64] + [0]
    write_files(tmp_path / "in", sizes)
    units = join_small_units(index_files(tmp_path / "in"), folder)
    assert sorted(unit.rows for unit in units) == [0, 63, 64, 194, 250, 256]
    expected = [
        f"{number} {row}".encode() for number, size in enumerate(sizes) for row in range(size)
    ]
    assert sorted(read_images([unit for unit in units if unit.rows])) == sorted(expected)


def test_a_folder_for_each_image_is_joined_too(tmp_path: Path, folder: RunFolder) -> None:
    for number in range(300):
        path = tmp_path / "in" / f"{number:04d}" / "image.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(str(number).encode())
    units = index_files(tmp_path / "in")
    joined = join_small_units(units, folder)
    assert len(units) == 300 and [unit.rows for unit in joined] == [256, 44]
    assert sorted(read_images(joined)) == sorted(str(number).encode() for number in range(300))
    sources = read_unit(joined[0], DEFAULT_LAYOUT)["source"].to_pylist()
    assert sources == [f"{number:04d}" for number in range(256)]


def test_bytes_bound_a_join_too(
    tmp_path: Path, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joins, "JOINED_BYTES", 300)
    write_files(tmp_path / "in", [5] * 8)
    units = join_small_units(index_files(tmp_path / "in"), folder)
    assert 1 < len(units) < 8 and all(unit.size <= 300 for unit in units)


def test_a_later_plan_joins_as_the_first_did_and_adds_what_is_new(
    tmp_path: Path, folder: RunFolder
) -> None:
    write_files(tmp_path / "in", [10] * 5, first=10)
    (before,) = join_small_units(index_files(tmp_path / "in"), folder)
    assert join_small_units(index_files(tmp_path / "in"), folder) == [before]
    write_files(tmp_path / "in", [10] * 3)  # they come earlier by name
    kept, added = join_small_units(index_files(tmp_path / "in"), folder)
    assert kept == before and added.rows == 30
    assert len(set(read_images([kept, added]))) == 80


def test_the_first_of_two_plans_at_once_counts(
    tmp_path: Path, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "in", [10] * 6)
    units = index_files(tmp_path / "in")
    rival = RunFolder.open(folder.path)

    def write_after_the_rival(folder: RunFolder, number: int, groups: list[list[str]]) -> bool:
        monkeypatch.setattr(joins, "write_joins", write_joins)
        assert write_joins(rival, number, [[units[0].name, units[1].name]])
        return write_joins(folder, number, groups)

    monkeypatch.setattr(joins, "write_joins", write_after_the_rival)
    joined = join_small_units(units, folder)
    assert sorted(unit.rows for unit in joined) == [20, 40]
    assert len(set(read_images(joined))) == 60
