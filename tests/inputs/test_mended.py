"""Shards that changed since they were indexed: taken where they hold the same images."""

from pathlib import Path

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.index import read_units, write_units
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.mended import accept_mended_shards
from c3l_ray.inputs.read import index_shard, read_unit
from c3l_ray.inputs.units import Shard
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes.world import write_shard

LAYOUT = Layout()


def write_input(path: Path, kind: str, images: dict[str, bytes]) -> None:
    path.mkdir(exist_ok=True)
    if kind == "tar":
        write_shard(path / "a.tar", list(images.items()))
        return
    for name, content in images.items():
        (path / name).write_bytes(content)


def find_one(path: Path) -> Shard:
    (shard,) = find_shards((str(path),), LAYOUT)
    return shard


@pytest.mark.parametrize("kind", ["tar", "folder"])
def test_images_that_were_mended_in_place_are_read_anew(kind: str, tmp_path: Path) -> None:
    folder = RunFolder.open(str(tmp_path / "run"))
    write_input(tmp_path / "in", kind, {"a.jpg": b"", "b.jpg": b"b" * 2000})
    before = find_one(tmp_path / "in")
    write_units(folder, before, index_shard(before, LAYOUT))
    write_input(tmp_path / "in", kind, {"a.jpg": b"a" * 20_000, "b.jpg": b"b" * 2000})
    now = find_one(tmp_path / "in")
    with pytest.raises(PreflightError, match="has changed since"):
        read_units(folder, now)
    accept_mended_shards([now], LAYOUT, folder, [])
    (unit,) = read_units(folder, now) or []
    assert read_unit(unit, LAYOUT)["image"].to_pylist() == [b"a" * 20_000, b"b" * 2000]


def test_a_tar_as_large_as_before_is_indexed_anew_where_images_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("c3l_ray.inputs.read.UNIT_ROWS", 1)
    folder = RunFolder.open(str(tmp_path / "run"))
    write_input(tmp_path / "in", "tar", {"a.jpg": b"", "b.jpg": b"b" * 2000})
    shard = find_one(tmp_path / "in")
    units = index_shard(shard, LAYOUT)
    write_units(folder, shard, units)
    write_input(tmp_path / "in", "tar", {"a.jpg": b"a" * 1000, "b.jpg": b"b" * 2000})
    assert find_one(tmp_path / "in") == shard  # tars end on multiples of 10,240 bytes
    accept_mended_shards([shard], LAYOUT, folder, ["of another shard-00000"])
    assert read_units(folder, shard) == units
    accept_mended_shards([shard], LAYOUT, folder, [units[0].name])
    first, second = read_units(folder, shard) or []
    assert read_unit(first, LAYOUT)["image"].to_pylist() == [b"a" * 1000]
    assert read_unit(second, LAYOUT)["image"].to_pylist() == [b"b" * 2000]


def test_other_images_than_were_indexed_are_refused_and_not_noted(tmp_path: Path) -> None:
    folder = RunFolder.open(str(tmp_path / "run"))
    write_input(tmp_path / "in", "folder", {"a.jpg": b"a"})
    before = find_one(tmp_path / "in")
    write_units(folder, before, index_shard(before, LAYOUT))
    write_input(tmp_path / "in", "folder", {"b.jpg": b"b"})
    now = find_one(tmp_path / "in")
    with pytest.raises(PreflightError, match=r"--retry-failed .*its 1 images are now 2, or lie"):
        accept_mended_shards([now], LAYOUT, folder, [])
    assert read_units(folder, before) is not None


def test_what_has_not_changed_is_not_indexed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.open(str(tmp_path / "run"))
    write_input(tmp_path / "in", "folder", {"a.jpg": b"a"})
    shard = find_one(tmp_path / "in")
    monkeypatch.delattr("c3l_ray.inputs.mended.index_shard")
    accept_mended_shards([shard], LAYOUT, folder, [])  # not indexed at all
    write_units(folder, shard, index_shard(shard, LAYOUT))
    accept_mended_shards([shard], LAYOUT, folder, [])
