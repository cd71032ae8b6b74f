"""Row groups that readers of a few rows like, and images that lie in a file once."""

import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from c3l_ray.dataset import parquet_export
from c3l_ray.dataset.columns import CONVERSATION_OF_TURN
from c3l_ray.dataset.parquet_export import PartWriter
from c3l_ray.runs.folder import RunFolder


def write_rows(folder: Path, images: list[bytes]) -> list[pq.FileMetaData]:
    writer = PartWriter(RunFolder.open(str(folder)), CONVERSATION_OF_TURN)
    rows: list[dict[str, Any]] = [
        {"id": str(number), "images": [{"bytes": image, "path": None}]}
        for number, image in enumerate(images)
    ]
    writer.add(rows)
    writer.close()
    files = sorted((folder / "data").glob("*.parquet"))
    assert writer.num_files == len(files)
    read = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert [row["id"] for row in read] == [row["id"] for row in rows]
    assert [row["images"][0]["bytes"] for row in read] == images
    return [pq.read_metadata(file) for file in files]


def list_groups(file: pq.FileMetaData) -> list[int]:
    return [file.row_group(number).num_rows for number in range(file.num_row_groups)]


def test_an_image_that_many_rows_show_lies_in_their_row_group_once(tmp_path: Path) -> None:
    image = os.urandom(3_000_000)  # of more than a page, and than the window of zstd
    write_rows(tmp_path, [image, os.urandom(3_000_000), image, image])
    assert (tmp_path / "data" / "part-00000.parquet").stat().st_size < 6_100_000


def test_row_groups_and_files_are_bounded_in_rows_and_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_export, "FILE_ROWS", 600)
    files = write_rows(tmp_path / "rows", [b"x"] * 1000)
    assert [list_groups(file) for file in files] == [[256, 256, 88], [256, 144]]
    monkeypatch.setattr(parquet_export, "GROUP_BYTES", 100_000)
    monkeypatch.setattr(parquet_export, "FILE_BYTES", 150_000)
    images = [os.urandom(size) for size in (*[40_000] * 5, 500_000)]
    files = write_rows(tmp_path / "bytes", images)
    assert [list_groups(file) for file in files] == [[2, 2], [1, 1]]


def test_no_rows_are_no_file(tmp_path: Path) -> None:
    assert write_rows(tmp_path, []) == []
