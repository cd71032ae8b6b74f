from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray.inputs import read
from c3l_ray.inputs.formats import members
from tests.examples import EncodeImage
from tests.inputs.pictures import draw_shade, read_shades
from tests.inputs.shards import DEFAULT_LAYOUT, index_only_shard, read_rows


def test_a_folder_of_images_and_other_files(
    tmp_path: Path, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "UNIT_ROWS", 2)
    for name in ("b.PNG", "a.jpg", "c.webp", ".hidden.png"):
        (tmp_path / name).write_bytes(encoded())
    (tmp_path / "readme.md").write_text("not an image")
    (tmp_path / "labels.json").write_text("{}")
    (tmp_path / "a.txt").write_text("the first")
    assert [(row["key"], row["caption"]) for row in read_rows(tmp_path)] == [
        ("a", "the first"),
        ("b", None),
        ("c", None),
    ]


def test_a_file_that_is_gone_since_the_index_is_a_failed_row(
    tmp_path: Path, encoded: EncodeImage
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encoded())
    (unit,) = index_only_shard(tmp_path)
    (tmp_path / "a.png").unlink()
    first, second = read.read_unit(unit, DEFAULT_LAYOUT).to_pylist()
    assert first["error"].startswith("unreadable: FileNotFoundError")
    assert second["error"] is None


def test_img2dataset_files_with_their_metadata_beside(tmp_path: Path) -> None:
    (tmp_path / "00000").mkdir()
    for i in range(3):
        draw_shade(i).save(tmp_path / "00000" / f"{i:09d}.png")
        (tmp_path / "00000" / f"{i:09d}.txt").write_text(f"shade {i}")
        (tmp_path / "00000" / f"{i:09d}.json").write_text('{"url": "u"}')
    pq.write_table(pa.table({"key": ["000000000"]}), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text('{"count": 3}')
    rows = read_rows(tmp_path)
    assert read_shades(rows) == [0, 1, 2]
    assert [row["caption"] for row in rows] == ["shade 0", "shade 1", "shade 2"]
    assert {row["source"] for row in rows} == {"00000"}


@pytest.mark.parametrize("ending", members.DECODED_ENDINGS)
def test_every_kind_of_image_is_read(tmp_path: Path, ending: str) -> None:
    """By its ending, in either case, beside others of the same stem."""
    formats = dict.fromkeys(("jpg", "jpe", "jfif", "mpo"), "JPEG")
    formats |= {"apng": "PNG", "tif": "TIFF", "dib": "BMP", "jp2": "JPEG2000", "j2k": "JPEG2000"}
    format_ = formats.get(ending, ending)
    draw_shade(80).save(tmp_path / "a.jpg", "JPEG")
    for name in (f"a.{ending}", f"a.{ending.upper()}"):
        draw_shade(80).save(tmp_path / name, format_)
    (tmp_path / "a.txt").write_text("a caption")
    rows = read_rows(tmp_path)
    assert len(rows) == (2 if ending == "jpg" else 3)
    assert all(abs(shade - 80) < 3 for shade in read_shades(rows))
    assert {row["caption"] for row in rows} == {"a caption"}
    assert {row["key"] for row in rows} == {"a"} and len({row["image_id"] for row in rows}) == len(
        rows
    )


def test_images_that_are_not_decoded_are_rows_too(tmp_path: Path) -> None:
    for ending in (*members.OTHER_IMAGE_ENDINGS, *members.RAW_ENDINGS):
        (tmp_path / f"a.{ending}").write_bytes(b"not decoded here")
    rows = read_rows(tmp_path)
    assert len(rows) == len(members.OTHER_IMAGE_ENDINGS) + len(members.RAW_ENDINGS)
    failed = [row["error"] for row in rows if row["error"]]
    assert len(failed) == len(members.RAW_ENDINGS)
    assert all(error.startswith("unsupported: a.") for error in failed)


def test_the_last_dot_of_a_name_begins_its_ending(tmp_path: Path) -> None:
    for name in ("IMG_2023.07.10.jpg", "IMG_2023.07.11.jpg", "site.example.com_0.PNG"):
        draw_shade(9).save(tmp_path / name)
    (tmp_path / "IMG_2023.07.10.txt").write_text("the tenth")
    (tmp_path / "IMG_2023.txt").write_text("of no image")
    assert [(row["key"], row["caption"]) for row in read_rows(tmp_path)] == [
        ("IMG_2023.07.10", "the tenth"),
        ("IMG_2023.07.11", None),
        ("site.example.com_0", None),
    ]


def test_links_are_read_and_a_link_to_nothing_is_a_failed_row(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    draw_shade(7).save(tmp_path / "target.png")
    (tmp_path / "target.txt").write_text("a caption")
    (folder / "a.png").symlink_to("../target.png")
    (folder / "a.txt").symlink_to("../target.txt")
    (folder / "b.png").symlink_to("nothing")
    (folder / "c.png").symlink_to("c.png")
    (folder / "d.png").symlink_to("../target.png")
    (folder / "d.txt").symlink_to("nothing")
    good, *failed = read_rows(folder)
    assert read_shades([good]) == [7] and good["caption"] == "a caption"
    assert [row["key"] for row in failed] == ["b", "c", "d"]
    assert all(row["error"].startswith("unreadable: ") for row in failed)


def test_bytes_bound_a_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "UNIT_BYTES", 1000)
    for number, size in enumerate((400, 400, 400, 1200, 10, 10, 990, 0)):
        (tmp_path / f"{number}.jpg").write_bytes(bytes(size))
    units = index_only_shard(tmp_path)
    assert [(unit.rows, unit.size) for unit in units] == [
        *((2, 800), (1, 400), (1, 1200), (2, 20), (2, 990))
    ]


def test_a_file_that_is_too_large_is_a_failed_row_and_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "MAX_FILE_BYTES", 1000)
    for name, size in (("a.jpg", 1001), ("b.jpg", 1000), ("c.jpg", 1), ("c.txt", 2000)):
        (tmp_path / name).write_bytes(bytes(size))
    (unit,) = index_only_shard(tmp_path)
    assert unit.size == 1000
    large, good, with_text = read_rows(tmp_path)
    assert large["error"] == "too_large: a.jpg has 1,001 bytes, over 1,000"
    assert good["error"] is None and with_text["error"].startswith("too_large: c.txt has 2,000")
