import gzip
import io
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from c3l_ray.inputs import read
from c3l_ray.scenes.world import write_shard
from tests.examples import EncodeImage
from tests.inputs.pictures import draw_shade, read_shades
from tests.inputs.shards import index_only_shard, read_rows


def test_a_sample_is_its_image_caption_and_meta(tmp_path: Path, encoded: EncodeImage) -> None:
    image = encoded()
    write_shard(
        tmp_path / "a.tar",
        [
            ("cats/1.jpg", image),
            ("cats/1.txt", b"a cat"),
            ("cats/1.json", b'{"n": 1}'),
            ("cats/1.seg.npy", b"ignored"),
            ("cats/2.PNG", image),
        ],
    )
    first, second = read_rows(tmp_path)
    assert (first["key"], first["source"], first["image"]) == ("cats/1", "a.tar", image)
    assert (first["caption"], json.loads(first["meta"])) == ("a cat", {"n": 1})
    assert (second["key"], second["image"], second["caption"]) == ("cats/2", image, None)
    assert first["error"] is None and first["turns"] is None


def test_a_sample_without_an_image_is_a_failed_row(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [("1.txt", b"no picture"), ("2.jpg", b"x")])
    first, second = read_rows(tmp_path)
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
    assert [row["key"] for row in read_rows(tmp_path)] == ["folder/1"]


def test_names_that_are_not_utf8_are_readable(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [(b"caf\xe9.jpg".decode("utf-8", "surrogateescape"), b"x")])
    (row,) = read_rows(tmp_path)
    assert row["key"] == "caf\\xe9"


def test_a_member_with_a_path_outside_is_a_sample_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_shard(tmp_path / "in" / "a.tar", [("../../evil.jpg", b"x"), ("/etc/evil.jpg", b"y")])
    assert [row["key"] for row in read_rows(tmp_path / "in")] == ["../../evil", "/etc/evil"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar", "in"]


def test_long_names_survive_a_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "UNIT_ROWS", 1)
    keys = [f"{'folder/' * 30}{i}" for i in range(3)]
    write_shard(tmp_path / "a.tar", [(f"{key}.jpg", b"x") for key in keys])
    assert [row["key"] for row in read_rows(tmp_path)] == keys


def test_webdataset_tars_with_odd_orders_and_extra_members(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for i in range(3):
            writer.write(
                {
                    "__key__": f"sub/{i:04d}",
                    "txt": f"shade {i}",
                    "npy": np.zeros(3),
                    "cls": i,
                    "json": {"shade": i},
                    "seg.png": draw_shade(200),
                    "png": draw_shade(i),
                }
            )
    rows = read_rows(tmp_path)
    assert read_shades(rows) == [0, 1, 2]
    assert [row["caption"] for row in rows] == ["shade 0", "shade 1", "shade 2"]
    assert [json.loads(row["meta"])["shade"] for row in rows] == [0, 1, 2]
    assert rows[0]["key"] == "sub/0000"


def test_webdataset_gzipped_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "UNIT_ROWS", 2)
    with webdataset.TarWriter(str(tmp_path / "a.tar.gz"), compress=True) as writer:
        for i in range(5):
            writer.write({"__key__": f"{i}", "png": draw_shade(i)})
    assert (tmp_path / "a.tar.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert read_shades(read_rows(tmp_path)) == list(range(5))


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
    (row,) = read_rows(tmp_path)
    assert row["error"].startswith("damaged_shard: a.tar at byte 0: ")


def test_an_empty_tar_is_one_unit_without_rows(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [])
    (unit,) = index_only_shard(tmp_path)
    assert unit.rows == 0 and unit.damage is None
