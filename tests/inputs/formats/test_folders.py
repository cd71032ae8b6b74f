from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray.inputs import read
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
