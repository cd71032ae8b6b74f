"""Row groups of any size, read in batches; what cannot be read costs no row before it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray.inputs import read
from c3l_ray.inputs.formats import parquet
from tests.examples import EncodeImage
from tests.inputs.shards import DEFAULT_LAYOUT, find_shards, index_only_shard, read_rows


def test_a_row_group_is_read_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes in a struct, of which Arrow makes no single array where they are over 2 GiB."""
    monkeypatch.setattr(read, "UNIT_ROWS", 7)
    sizes: list[int] = []
    iter_batches = pq.ParquetFile.iter_batches

    def iterate_and_note(file: pq.ParquetFile, *args: Any, **options: Any) -> Any:
        for batch in iter_batches(file, *args, **options):
            sizes.append(batch.num_rows)
            yield batch

    def read_none(*_: Any, **__: Any) -> None:
        raise pa.ArrowNotImplementedError("Nested data conversions not implemented for chunked")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iterate_and_note)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", read_none)
    monkeypatch.setattr(parquet, "BATCH_BYTES", 4 * 1000)
    type_ = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    noise = [np.random.default_rng(i).bytes(1000) for i in range(40)]
    images = pa.array([{"bytes": image, "path": None} for image in noise], type_)
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    rows = read_rows(tmp_path)
    assert [row["image"] for row in rows] == noise
    assert max(sizes) <= 4
    # A unit reads no batch after its last row: six units, the last of five rows.
    assert sum(sizes) <= sum(7 * number + 4 for number in range(1, 7))


def test_what_arrow_cannot_read_is_no_damage(
    tmp_path: Path, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_none(*_: Any, **__: Any) -> None:
        raise pa.ArrowNotImplementedError("not yet")

    pq.write_table(pa.table({"image": [encoded()] * 2}), tmp_path / "a.parquet")
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", read_none)
    rows = read_rows(tmp_path)
    assert [row["error"] for row in rows] == [
        f"unsupported: a.parquet row {row}: not yet" for row in (0, 1)
    ]


def test_rows_before_a_damage_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "BATCH_ROWS", 1)
    noise = [np.random.default_rng(i).bytes(5000) for i in range(4)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": noise}), path, row_group_size=2, compression="zstd")
    (unit,) = index_only_shard(tmp_path)
    content = bytearray(path.read_bytes())
    place = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    content[place : place + 20] = bytes(20)
    path.write_bytes(content)
    rows = read.read_unit(unit, DEFAULT_LAYOUT).to_pylist()
    assert [row["image"] for row in rows[:2]] == noise[:2]
    assert [(row["error"] or "ok").split(" row")[0] for row in rows] == [
        *["ok"] * 2,
        *["damaged_shard: a.parquet"] * 2,
    ]


def test_large_row_groups_are_told_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parquet, "SLOW_GROUP_BYTES", 10_000)
    table = pa.table({"image": [np.random.default_rng(i).bytes(20) for i in range(1100)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=256)
    find_shards(tmp_path)
    assert caplog.messages == []
    pq.write_table(table, tmp_path / "a.parquet")
    find_shards(tmp_path)
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path}/a.parquet has row groups of up to 1100 rows")
