import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from c3l_ray.errors import PreflightError
from c3l_ray.inputs import read
from c3l_ray.inputs.formats import members, tars
from c3l_ray.inputs.layout import Layout
from c3l_ray.scenes.world import write_shard
from c3l_ray.storage import Location
from tests.examples import EncodeImage
from tests.inputs.pictures import draw_shade, read_shades
from tests.inputs.shards import DEFAULT_LAYOUT, find_shards, index_only_shard, read_rows


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


def test_an_empty_tar_is_one_unit_without_rows(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [])
    write_shard(tmp_path / "b.tar", [("1.jpg", b"x")])
    (unit,) = read.index_shard(find_shards(tmp_path)[0], DEFAULT_LAYOUT)
    assert unit.rows == 0 and unit.damage is None
    with pytest.raises(PreflightError, match="holds no image: nothing is in it"):
        find_shards(tmp_path / "a.tar")


def add_link(tar: tarfile.TarFile, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    tar.addfile(info)


def test_links_are_the_members_that_they_lead_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "UNIT_ROWS", 2)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in (("blobs/0f", b"hub"), ("in/1.jpg", b"one"), ("in/1.txt", b"first")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        add_link(tar, "in/2.jpg", "in/1.jpg", tarfile.LNKTYPE)
        add_link(tar, "in/2.txt", "in/1.txt", tarfile.LNKTYPE)
        add_link(tar, "in/3.jpg", "2.jpg")
        add_link(tar, "in/4.png", "../blobs/0f")
        add_link(tar, "in/5.jpg", "/etc/passwd")
        add_link(tar, "in/6.jpg", "../../outside.jpg")
        add_link(tar, "in/7.jpg", "7.jpg")
        add_link(tar, "folder", "in")
    rows = read_rows(tmp_path)
    assert [(row["key"], row["image"], row["caption"]) for row in rows if not row["error"]] == [
        ("in/1", b"one", "first"),
        ("in/2", b"one", "first"),
        ("in/3", b"one", None),
        ("in/4", b"hub", None),
    ]
    failed = {row["key"]: row["error"] for row in rows if row["error"]}
    assert failed.keys() == {"in/5", "in/6", "in/7"}
    expected = "unreadable: in/5.jpg is a link to /etc/passwd, which is not in the tar"
    assert failed["in/5"] == expected


@pytest.mark.parametrize("zipped", [False, True])
def test_files_of_a_sample_that_stand_apart_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    monkeypatch.setattr(read, "UNIT_ROWS", 3)
    write_shard(
        tmp_path / "a",
        [
            *((f"{i}.jpg", bytes([i]) * 1000) for i in range(8)),
            *((f"{i}.txt", f"caption {i}".encode()) for i in reversed(range(8))),
            ("lonely.txt", b"no image"),
            *((f"{i}.json", f"[{i}]".encode()) for i in range(8)),
        ],
    )
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a.tar").write_bytes(gzip.compress(content) if zipped else content)
    *rows, lonely = read_rows(tmp_path)
    assert [(row["image"][0], row["caption"], row["meta"]) for row in rows] == [
        (i, f"caption {i}", f"[{i}]") for i in range(8)
    ]
    assert lonely["error"].startswith("no_image: the sample has txt")


def test_captions_of_repeated_keys_go_to_one_image_each(tmp_path: Path) -> None:
    names = ("1.jpg", "2.jpg", "1.jpg", "1.txt", "2.txt", "1.txt", "1.txt")
    write_shard(tmp_path / "a.tar", [(name, str(i).encode()) for i, name in enumerate(names)])
    rows = [(row["image"], row["caption"]) for row in read_rows(tmp_path)]
    assert rows == [(b"0", "5"), (b"1", "4"), (b"2", "3")]


def test_several_images_of_a_key_are_rows_with_its_caption(tmp_path: Path) -> None:
    contents = [("1.jpg", b"a"), ("1.txt", b"text"), ("1.png", b"b"), ("1.seg.png", b"ignored")]
    write_shard(tmp_path / "a.tar", contents)
    rows = read_rows(tmp_path)
    assert [(row["image"], row["caption"]) for row in rows] == [(b"a", "text"), (b"b", "text")]
    assert len({row["image_id"] for row in rows}) == 2
    (row,) = read_rows(tmp_path, Layout(image="jpg"))
    assert row["image"] == b"a"


def test_endings_of_two_parts_are_named(tmp_path: Path) -> None:
    contents = [("1.input.jpg", b"a"), ("1.outputs.txt", b"text"), ("2.INPUT.JPG", b"b")]
    write_shard(tmp_path / "a.tar", contents)
    with pytest.raises(
        PreflightError, match=r"names end in input\.jpg, outputs\.txt; --layout\.im"
    ):
        find_shards(tmp_path)
    rows = read_rows(tmp_path, Layout(image="input.jpg", caption=".outputs.txt"))
    assert [(row["key"], row["image"], row["caption"]) for row in rows] == [
        ("1", b"a", "text"),
        ("2", b"b", None),
    ]


def test_each_image_whose_name_has_two_dots_is_a_failed_row(tmp_path: Path) -> None:
    names = ("IMG_2023.07.10.jpg", "IMG_2023.07.11.jpg", "IMG_2023.07.11.txt", "plain.jpg")
    write_shard(tmp_path / "a.tar", [(name, b"x") for name in names])
    first, second, plain = read_rows(tmp_path)
    assert first["error"].startswith("no_image: the sample has 07.10.jpg, and none is an image's")
    assert "07.11.jpg" in second["error"] and first["image_id"] != second["image_id"]
    assert plain["error"] is None


def test_what_is_too_large_or_no_plain_file_is_a_failed_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "MAX_FILE_BYTES", 1000)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, size in (("1.jpg", 1001), ("2.jpg", 1000), ("3.dng", 10)):
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(bytes(size)))
        pipe = tarfile.TarInfo("4.jpg")
        pipe.type = tarfile.FIFOTYPE
        tar.addfile(pipe)
    large, good, raw, no_file = read_rows(tmp_path)
    assert large["error"] == "too_large: 1.jpg has 1,001 bytes, over 1,000"
    assert good["error"] is None and len(good["image"]) == 1000
    assert raw["error"].startswith("unsupported: 3.dng is a camera's raw file; convert it")
    assert no_file["error"].startswith("unreadable: 4.jpg is no plain file")


def test_large_members_that_are_not_used_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tars, "UNUSED_BYTES", 10_000)
    monkeypatch.setattr(tars, "NEAR_BYTES", 2_000)
    write_shard(
        tmp_path / "a.tar",
        [(f"{i}.{e}", b"x" * size) for i in range(3) for e, size in (("jpg", 9), ("mp4", 50_000))],
    )
    (unit,) = index_only_shard(tmp_path)
    assert unit.size == 27
    read_bytes = []
    original = Location.read

    def count(location: Location, start: int | None = None, end: int | None = None) -> bytes:
        read_bytes.append((end or 0) - (start or 0))
        return original(location, start, end)

    monkeypatch.setattr(Location, "read", count)
    assert [row["image"] for row in read_rows(tmp_path)] == [b"x" * 9] * 3
    assert sum(read_bytes) < 1000


def test_texts_with_byte_order_marks(tmp_path: Path) -> None:
    texts = {"1": "é".encode("utf-8-sig"), "2": "é".encode("utf-16"), "3": "é".encode()}
    for key, text in texts.items():
        (tmp_path / f"{key}.txt").write_bytes(text)
        (tmp_path / f"{key}.jpg").write_bytes(b"x")
    write_shard(
        tmp_path / "a.tar",
        [member for key in texts for member in ((f"{key}.jpg", b"x"), (f"{key}.txt", texts[key]))],
    )
    assert [row["caption"] for row in read_rows(tmp_path / "a.tar")] == ["é"] * 3
    (tmp_path / "a.tar").unlink()
    assert [row["caption"] for row in read_rows(tmp_path)] == ["é"] * 3


def test_images_that_are_no_rows_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "UNIT_ROWS", 1)
    names = ("1.jpg", "1.seg.png", "1.txt", ".2.jpg", ".git/3.jpg", ".notes", "4.jpg", "4.png")
    write_shard(tmp_path / "a.tar", [(name, b"x") for name in names])
    assert [unit.passed_over for unit in index_only_shard(tmp_path)] == [0, 0, 3]
    assert [unit.passed_over for unit in index_only_shard(tmp_path, Layout(image="jpg"))] == [0, 4]
