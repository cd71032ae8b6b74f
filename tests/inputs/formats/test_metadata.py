import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inputs.formats import metadata
from c3l_ray.inputs.layout import Layout
from tests.inputs.counted import read_all_rows
from tests.inputs.pictures import draw_shade, read_shades
from tests.inputs.shards import read_rows


def write_metadata(path: Path, rows: list[dict[str, str]]) -> None:
    """Rows as JSON Lines, CSV or Parquet, by the ending of the path."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8-sig")
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize("name", metadata.NAMES)
def test_captions_are_read_from_metadata(tmp_path: Path, name: str) -> None:
    for image in ("a.png", "b.png", "deep/a.png", "own/a.png"):
        (tmp_path / image).parent.mkdir(exist_ok=True)
        draw_shade(3).save(tmp_path / image)
    (tmp_path / "b.txt").write_text("beside it")
    listed = {"a.png": "one, of two\nlines", "b.png": "two", "deep/a.png": "deep", "gone.png": "x"}
    write_metadata(tmp_path / name, [{"file_name": k, "text": v} for k, v in listed.items()])
    write_metadata(tmp_path / "own" / name, [{"file_name": "a.png", "prompt": "p", "text": "t"}])
    rows = read_all_rows([tmp_path])
    assert {f"{row['source']}/{row['key']}": row["caption"] for row in rows} == {
        "/a": "one, of two\nlines",
        "/b": "beside it",
        "deep/a": "deep",
        "own/a": "t",
    }
    (row,) = read_rows(tmp_path / "own", Layout(caption="prompt"))
    assert row["caption"] == "p"
    for named in (tmp_path / "a.png", f"{tmp_path}/a*.png"):
        assert [row["caption"] for row in read_rows(named)] == ["one, of two\nlines"]


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("metadata.jsonl", b'{"file_name": "a.png", "text": "t"}\n{"file_', "line 2: no row"),
        ("metadata.jsonl", b'{"file_name": "a.png", "text": "t"}\n[1]\n', "line 2: no row"),
        ("metadata.jsonl", b'\xff\xfe{"text": "t"}\n', "'utf-8' codec"),
        ("metadata.csv", b"name,text\na.png,t\n", "line 2: no row with a file_name"),
        ("metadata.parquet", b"no Parquet", "Parquet magic bytes"),
    ],
)
def test_damaged_metadata_costs_its_captions_and_is_a_failed_row(
    tmp_path: Path, name: str, content: bytes, place: str
) -> None:
    for image in ("a.png", "b.png"):
        draw_shade(3).save(tmp_path / image)
    (tmp_path / name).write_bytes(content)
    if name.endswith("parquet"):  # it may be data
        with pytest.raises(PreflightError, match="holds image and parquet files"):
            read_rows(tmp_path)
        return
    *rows, damage = read_rows(tmp_path)
    assert read_shades(rows) == [3, 3]
    assert damage["error"].startswith(f"damaged_shard: . at {name} ") and place in damage["error"]
