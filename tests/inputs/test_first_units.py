"""The first images of an input: exactly as many as asked for, in units that a whole run keeps."""

from pathlib import Path

import pytest

from c3l_ray.inputs import first_units
from c3l_ray.inputs.first_units import plan_first_units
from c3l_ray.inputs.index import read_units, write_joins, write_units
from c3l_ray.inputs.joins import join_small_units
from c3l_ray.inputs.read import index_shard, read_unit
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes.world import write_shard
from tests.inputs.shards import DEFAULT_LAYOUT, find_shards
from tests.inputs.test_joins import write_files


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.open(str(tmp_path / "run"))


@pytest.fixture(params=["tar", "parquet"])
def shards(request: pytest.FixtureRequest, tmp_path: Path) -> list[Shard]:
    """Three shards of 20, 30 and 300 images; the small units of Parquet are joined."""
    sizes = [20, 30, 300]
    if request.param == "parquet":
        write_files(tmp_path / "in", sizes)
    else:
        (tmp_path / "in").mkdir()
        for number, size in enumerate(sizes):
            members = [(f"{row:03}.jpg", f"{number} {row}".encode()) for row in range(size)]
            write_shard(tmp_path / "in" / f"{number}.tar", members)
    return find_shards(tmp_path / "in")


def plan_all(shards: list[Shard], folder: RunFolder) -> list[Unit]:
    """The units of a whole run, as `pipeline.plan_units` finds them."""
    units = []
    for shard in shards:
        of_shard = read_units(folder, shard)
        if of_shard is None:
            of_shard = index_shard(shard, DEFAULT_LAYOUT)
            write_units(folder, shard, of_shard)
        units += of_shard
    return join_small_units(units, folder)


def read_images(units: list[Unit]) -> list[str]:
    tables = [read_unit(unit, DEFAULT_LAYOUT) for unit in units]
    return [image.decode() for table in tables for image in table["image"].to_pylist()]


@pytest.mark.parametrize("limit", [1, 19, 20, 21, 50, 51, 306, 349])
def test_a_whole_run_goes_on_from_the_units_of_exactly_the_first_images(
    limit: int, shards: list[Shard], folder: RunFolder
) -> None:
    images = [f"{number} {row}" for number, size in enumerate((20, 30, 300)) for row in range(size)]
    first, is_whole = plan_first_units(shards, DEFAULT_LAYOUT, folder, limit)
    assert not is_whole
    assert sorted(read_images(first)) == sorted(images[:limit])
    whole = plan_all(shards, folder)
    assert {unit.name: unit for unit in whole} | {unit.name: unit for unit in first} == {
        unit.name: unit for unit in whole
    }
    assert sorted(read_images(whole)) == sorted(images)
    assert plan_first_units(shards, DEFAULT_LAYOUT, folder, limit)[0] == first  # it resumes


@pytest.mark.parametrize("limit", [350, 351, 10_000])
def test_as_many_images_as_there_are_or_more_are_the_whole_input(
    limit: int, shards: list[Shard], folder: RunFolder
) -> None:
    units, is_whole = plan_first_units(shards, DEFAULT_LAYOUT, folder, limit)
    assert is_whole and sum(unit.rows for unit in units) == 350


def test_shards_beyond_the_first_images_are_not_indexed(
    shards: list[Shard], folder: RunFolder
) -> None:
    plan_first_units(shards, DEFAULT_LAYOUT, folder, 15)
    assert [read_units(folder, shard) is not None for shard in shards] == [True, False, False]


def test_what_was_indexed_before_keeps_its_units(shards: list[Shard], folder: RunFolder) -> None:
    """Also joined ones: a part of a joined unit never goes by its name."""
    whole = {unit.name: unit for unit in plan_all(shards, folder)}
    units, is_whole = plan_first_units(shards, DEFAULT_LAYOUT, folder, 5)
    (unit,) = units
    assert whole[unit.name] == unit and not is_whole
    assert unit.rows == (94 if unit.members else 20)  # the last 44 are joined too


def test_a_group_that_another_run_notes_meanwhile_is_taken_whole(
    tmp_path: Path, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "in", [5, 6, 7])
    shards = find_shards(tmp_path / "in")
    units = [unit for shard in shards for unit in index_shard(shard, DEFAULT_LAYOUT)]

    def join_after_another_run(chosen: list[Unit], folder: RunFolder) -> list[Unit]:
        for shard in shards:
            write_units(folder, shard, index_shard(shard, DEFAULT_LAYOUT))
        write_joins(folder, 0, [[unit.name for unit in units]])
        return join_small_units(chosen, folder)

    monkeypatch.setattr(first_units, "join_small_units", join_after_another_run)
    (unit,), _ = plan_first_units(shards, DEFAULT_LAYOUT, folder, 5)
    assert unit.rows == 18 and len(unit.members) == 3
