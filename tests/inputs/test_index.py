import dataclasses
from pathlib import Path

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inputs.index import read_joins, read_units, write_joins, write_units
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.runs.folder import RunFolder

UNIT = Unit(name="u-00000", format="tar", path="a.tar", source="a.tar", start=0, end=9, rows=3)


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """An empty run folder: every test here runs on both."""
    if request.param == "local":
        return RunFolder.open(str(tmp_path / "run"))
    return RunFolder.open(f"{request.getfixturevalue('s3')}/run")


def test_units_are_remembered_until_the_shard_changes(folder: RunFolder) -> None:
    shard = Shard(format="tar", path="/data/a.tar", source="a.tar", size=10)
    assert read_units(folder, shard) is None
    write_units(folder, shard, [UNIT])
    moved = dataclasses.replace(shard, path="/elsewhere/a.tar")
    assert read_units(folder, moved) == [dataclasses.replace(UNIT, path="/elsewhere/a.tar")]
    with pytest.raises(PreflightError, match="10 bytes then, 11 now"):
        read_units(folder, dataclasses.replace(shard, size=11))
    with pytest.raises(PreflightError, match="has changed since"):
        read_units(folder, dataclasses.replace(shard, etag="other content, as long"))


def test_the_first_joins_of_a_number_count_and_are_read_in_order(folder: RunFolder) -> None:
    assert read_joins(folder) == []
    assert write_joins(folder, 1, [["c"]])
    assert write_joins(folder, 0, [["a", "b"]])
    assert not write_joins(folder, 1, [["d"]])
    assert read_joins(folder) == [[["a", "b"]], [["c"]]]
