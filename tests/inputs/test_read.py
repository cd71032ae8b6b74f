import gzip
import io
import json
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from c3l_ray.config import Layout
from c3l_ray.inputs import read
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.errors import PreflightError
from c3l_ray.scenes.world import write_shard
from c3l_ray.schema import STAGED_ROWS

Encoded = Callable[..., bytes]


def find_shards(*inputs: str, **columns: str) -> list[Shard]:
    return read.find_shards(inputs, Layout(**columns))


def index(shard: Shard, **columns: str) -> list[Unit]:
    return read.index(shard, Layout(**columns))


def read(unit: Unit, **columns: str) -> pa.Table:
    return read.read(unit, Layout(**columns))


def the_shard(folder: Path, **columns: str) -> Shard:
    (shard,) = find_shards(str(folder), **columns)
    return shard


def rows(folder: Path, **columns: str) -> list[dict[str, Any]]:
    """Every row of the only shard in a folder, unit by unit."""
    found = []
    for unit in index(the_shard(folder, **columns), **columns):
        table = read(unit, **columns)
        assert table.schema.equals(STAGED_ROWS)
        assert table.num_rows == unit.rows
        assert set(table["unit"].to_pylist()) <= {unit.name}
        found += table.to_pylist()
    return found


def test_a_sample_is_its_image_caption_and_meta(tmp_path: Path, encoded: Encoded) -> None:
    image = encoded()
    write_shard(
        tmp_path / "a.tar",
        [
            ("cats/1.jpg", image),
            ("cats/1.txt", "a cat"[:].encode()),
            ("cats/1.json", b'{"n": 1}'),
            ("cats/1.seg.npy", b"ignored"),
            ("cats/2.PNG", image),
        ],
    )
    first, second = rows(tmp_path)
    assert (first["key"], first["source"], first["image"]) == ("cats/1", "a.tar", image)
    assert (first["caption"], json.loads(first["meta"])) == ("a cat", {"n": 1})
    assert (second["key"], second["image"], second["caption"]) == ("cats/2", image, None)
    assert first["error"] is None and first["turns"] is None


def test_ids_come_from_place_and_key_not_from_the_root(tmp_path: Path) -> None:
    for root in ("here", "there"):
        (tmp_path / root / "deep").mkdir(parents=True)
        write_shard(tmp_path / root / "deep" / "a.tar", [("1.jpg", b"x"), ("2.jpg", b"y")])
    here, there = rows(tmp_path / "here"), rows(tmp_path / "there")
    assert [row["image_id"] for row in here] == [row["image_id"] for row in there]
    assert len({row["image_id"] for row in here}) == 2
    assert here[0]["source"] == "deep/a.tar"


def test_repeated_keys_have_ids_of_their_own_also_across_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "UNIT_ROWS", 2)
    members = [("1.jpg", b"a"), ("2.jpg", b"b"), ("1.jpg", b"c"), ("1.jpg", b"d"), ("2.jpg", b"e")]
    write_shard(tmp_path / "a.tar", members)
    found = rows(tmp_path)
    assert [row["image"] for row in found] == [content for _, content in members]
    assert len({row["image_id"] for row in found}) == 5


@pytest.mark.parametrize(("unit_rows", "unit_bytes"), [(3, 10**9), (10**9, 5000), (1, 1)])
def test_cutting_into_units_changes_nothing_but_the_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit_rows: int, unit_bytes: int
) -> None:
    members = [
        (f"{i:03d}.{ext}", bytes([i]) * size)
        for i in range(10)
        for ext, size in (("jpg", 700 * i), ("txt", 5))
    ]
    write_shard(tmp_path / "a.tar", members)
    whole = rows(tmp_path)
    monkeypatch.setattr(shards, "UNIT_ROWS", unit_rows)
    monkeypatch.setattr(shards, "UNIT_BYTES", unit_bytes)
    units = index(the_shard(tmp_path))
    assert len(units) > 1
    assert [unit.end for unit in units[:-1]] == [unit.start for unit in units[1:]]
    cut = rows(tmp_path)
    for row in (*whole, *cut):
        del row["unit"], row["unit_rows"]
    assert cut == whole


def test_a_sample_without_an_image_is_a_failed_row(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [("1.txt", b"no picture"), ("2.jpg", b"x")])
    first, second = rows(tmp_path)
    assert first["error"].startswith("no_image: the sample has txt")
    assert second["error"] is None


def test_hidden_files_and_folders_are_no_samples(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in ("folder/._1.jpg", "folder/1.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    assert [row["key"] for row in rows(tmp_path)] == ["folder/1"]


def test_names_that_are_not_utf8_are_readable(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [(b"caf\xe9.jpg".decode("utf-8", "surrogateescape"), b"x")])
    (row,) = rows(tmp_path)
    assert row["key"] == "caf\\xe9"


def test_a_member_with_a_path_outside_is_a_sample_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_shard(tmp_path / "in" / "a.tar", [("../../evil.jpg", b"x"), ("/etc/evil.jpg", b"y")])
    assert [row["key"] for row in rows(tmp_path / "in")] == ["../../evil", "/etc/evil"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar", "in"]


def test_the_same_key_in_two_shards_is_two_images(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_shard(tmp_path / name, [("1.jpg", b"x")])
    ids = {
        row["image_id"]
        for shard in find_shards(str(tmp_path))
        for unit in index(shard)
        for row in read(unit).to_pylist()
    }
    assert len(ids) == 2


def test_a_truncated_gzip_keeps_what_came_before(tmp_path: Path) -> None:
    noise = [random.Random(i).randbytes(60_000) for i in range(5)]
    write_shard(tmp_path / "b", [(f"{i}.jpg", noise[i]) for i in range(5)])
    zipped = gzip.compress((tmp_path / "b").read_bytes())
    (tmp_path / "a.tar").write_bytes(zipped[: len(zipped) // 2])
    *whole, damage = rows(tmp_path)
    assert [row["image"] for row in whole] == noise[: len(whole)] and len(whole) == 2
    assert damage["error"].startswith("damaged_shard: a.tar at byte ")


def test_an_input_without_permission_is_refused(tmp_path: Path) -> None:
    """As another user: the one who runs this may be root, for whom nothing is forbidden."""
    write_shard(tmp_path / "a.tar", [("1.jpg", b"x")])
    tmp_path.chmod(0o700)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            find_shards(str(tmp_path / "a.tar"))
            os.write(writer, b"it was read")
        except PreflightError as refused:
            os.write(writer, str(refused).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1000).decode().startswith(f"--input {tmp_path}/a.tar: ")


def test_long_names_survive_a_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "UNIT_ROWS", 1)
    keys = [f"{'folder/' * 30}{i}" for i in range(3)]
    write_shard(tmp_path / "a.tar", [(f"{key}.jpg", b"x") for key in keys])
    assert [row["key"] for row in rows(tmp_path)] == keys


@pytest.mark.parametrize("lost", [1, 600, 1500, 1536 + 700])
def test_a_truncated_tar_keeps_what_came_before(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "a.tar"
    write_shard(path, [(f"{i}.jpg", b"x" * 600) for i in range(5)])
    content = path.read_bytes()[: 5 * 1536]  # header and two blocks each; without the end's zeros
    path.write_bytes(content[:-lost])
    *whole, damage = rows(tmp_path)
    assert [row["key"] for row in whole] == [str(i) for i in range(len(whole))]
    assert len(whole) == (5 * 1536 - lost) // 1536 or lost == 1
    assert damage["error"].startswith("damaged_shard: a.tar at byte ")
    assert damage["image"] is None


def test_a_broken_header_is_not_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write_shard(path, [(f"{i}.jpg", b"x" * 600) for i in range(5)])
    content = bytearray(path.read_bytes())
    content[3 * 1536 : 3 * 1536 + 512] = b"\xff" * 512
    path.write_bytes(content)
    *whole, damage = rows(tmp_path)
    assert len(whole) == 3
    assert damage["error"] == "damaged_shard: a.tar at byte 4608: not a tar header"


@pytest.mark.parametrize("content", [b"", b"not a tar at all" * 100])
def test_what_is_no_tar_is_one_failed_row(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    (row,) = rows(tmp_path)
    assert row["error"].startswith("damaged_shard: a.tar at byte 0: ")


def test_an_empty_tar_is_one_unit_without_rows(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [])
    (unit,) = index(the_shard(tmp_path))
    assert unit.rows == 0 and unit.damage is None


def test_find_shards_takes_a_file_or_a_folder_in_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.tar", "a.tar", "deep/c.tar"):
        write_shard(tmp_path / name, [])
    (tmp_path / "readme.txt").write_text("not a shard")
    assert [shard.source for shard in find_shards(str(tmp_path))] == [
        "a.tar",
        "b.tar",
        "deep/c.tar",
    ]
    assert [shard.source for shard in find_shards(str(tmp_path / "b.tar"))] == ["b.tar"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent", "does not exist"),
        ("empty", "holds no .tar, no .parquet and no images"),
        ("file.zip", "not a .tar, .parquet or LLaVA .json"),
        ("ftp://somewhere/x", "only local paths and s3://"),
    ],
)
def test_an_input_that_cannot_be_is_refused(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zip").write_text("x")
    with pytest.raises(PreflightError, match=message):
        find_shards(path if "://" in path else str(tmp_path / path))


def test_s3_reads_as_a_local_path_does(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "UNIT_ROWS", 2)
    (tmp_path / "deep").mkdir()
    write_shard(tmp_path / "deep" / "a.tar", [(f"{i}.jpg", b"x" * 900 * i) for i in range(5)])
    fs, root = read.storage.connect("--input", s3)
    fs.put(str(tmp_path / "deep" / "a.tar"), f"{root}/deep/a.tar")
    (there,) = find_shards(s3)
    assert there.path == f"{s3}/deep/a.tar"
    assert [read(unit).to_pylist() for unit in index(there)] == [
        read(unit).to_pylist() for unit in index(the_shard(tmp_path))
    ]


@pytest.mark.parametrize(
    ("key", "secret"),
    [("writeraccess", "wrong"), ("nobody", "x"), ("readeraccess", "readersecret")],
)
def test_s3_without_permission_or_without_shards_is_refused(
    s3: str, monkeypatch: pytest.MonkeyPatch, key: str, secret: str
) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    s3fs.S3FileSystem.clear_instance_cache()
    message = "does not exist" if key == "readeraccess" else "cannot be read: .*(Forbidden|denied)"
    with pytest.raises(PreflightError, match=message):
        find_shards(s3)
