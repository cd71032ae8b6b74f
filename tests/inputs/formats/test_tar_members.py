import gzip
import io
import random
import tarfile
from pathlib import Path

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.scenes.world import write_shard
from tests.inputs.counted import read_all_rows
from tests.inputs.shards import find_shards, read_rows


def test_hidden_files_and_folders_are_no_samples(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in ("folder/._1.jpg", "folder/1.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    assert [row["key"] for row in read_rows(tmp_path)] == ["folder/1"]


@pytest.mark.parametrize("lost", [1, 600, 1500, 1536 + 700])
def test_a_truncated_tar_keeps_what_came_before(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "a.tar"
    write_shard(path, [(f"{i}.jpg", b"x" * 600) for i in range(5)])
    content = path.read_bytes()[: 5 * 1536]  # header and two blocks each; without the end's zeros
    path.write_bytes(content[:-lost])
    *whole, damage = read_rows(tmp_path)
    assert [row["key"] for row in whole] == [str(i) for i in range(len(whole))]
    assert len(whole) == (5 * 1536 - lost) // 1536 or lost == 1
    assert damage["error"].startswith("damaged_shard: a.tar at byte ")
    assert damage["image"] is None


def test_a_truncated_gzip_keeps_what_came_before(tmp_path: Path) -> None:
    noise = [random.Random(i).randbytes(60_000) for i in range(5)]
    write_shard(tmp_path / "b", [(f"{i}.jpg", noise[i]) for i in range(5)])
    zipped = gzip.compress((tmp_path / "b").read_bytes())
    (tmp_path / "a.tar").write_bytes(zipped[: len(zipped) // 2])
    *whole, damage = read_rows(tmp_path)
    assert [row["image"] for row in whole] == noise[: len(whole)] and len(whole) == 2
    assert damage["error"].startswith("damaged_shard: a.tar at byte ")


def test_a_broken_header_is_not_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write_shard(path, [(f"{i}.jpg", b"x" * 600) for i in range(5)])
    content = bytearray(path.read_bytes())
    content[3 * 1536 : 3 * 1536 + 512] = b"\xff" * 512
    path.write_bytes(content)
    *whole, damage = read_rows(tmp_path)
    assert len(whole) == 3
    assert damage["error"] == "damaged_shard: a.tar at byte 4608: not a tar header"


@pytest.mark.parametrize("content", [b"", b"not a tar at all" * 100])
def test_a_file_that_is_no_tar_is_one_failed_row(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    write_shard(tmp_path / "b.tar", [("1.jpg", b"x")])
    damage, good = read_all_rows([tmp_path])
    assert damage["error"].startswith("damaged_shard: a.tar at byte 0: ")
    assert good["error"] is None
    (tmp_path / "b.tar").unlink()
    with pytest.raises(
        PreflightError, match=r"a\.tar: holds no image: a\.tar is damaged at byte 0"
    ):
        find_shards(tmp_path)


@pytest.mark.parametrize("zeros", [0, 512, 10240, 3 * 2**20])
@pytest.mark.parametrize("zipped", [False, True])
def test_tars_joined_by_cat_are_one(tmp_path: Path, zeros: int, zipped: bool) -> None:
    for number in range(3):
        images = [(f"{number}{i}.jpg", bytes([number, i])) for i in range(2)]
        write_shard(tmp_path / f"{number}", images)
    content = bytes(zeros).join((tmp_path / f"{number}").read_bytes() for number in range(3))
    (tmp_path / "a.tar").write_bytes(gzip.compress(content) if zipped else content)
    rows = read_rows(tmp_path / "a.tar")
    assert [row["image"] for row in rows] == [bytes([n, i]) for n in range(3) for i in range(2)]


def test_what_follows_the_end_and_is_no_header_is_a_damage(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [("1.jpg", b"x")])
    size = (tmp_path / "a.tar").stat().st_size
    with (tmp_path / "a.tar").open("ab") as file:
        file.write(bytes(2048) + b"something else" * 100)
    good, damage = read_rows(tmp_path)
    assert good["image"] == b"x"
    assert damage["error"] == f"damaged_shard: a.tar at byte {size + 2048}: not a tar header"


def test_hidden_folders_of_a_tar_are_passed_over(tmp_path: Path) -> None:
    names = (".git/1.jpg", "__MACOSX/._1.jpg", "__MACOSX/1.jpg", "./a/1.jpg", "a/.b/2.jpg")
    write_shard(tmp_path / "a.tar", [(name, b"x") for name in names])
    assert [row["key"] for row in read_rows(tmp_path)] == ["./a/1"]
