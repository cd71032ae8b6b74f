"""Inputs as other libraries write them, read without flags where that can be."""

import io
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from c3l_ray.config import Layout
from c3l_ray.inputs import read
from c3l_ray.inputs.read import find_shards
from c3l_ray.errors import PreflightError
from c3l_ray.images import decode
from tests.inputs.test_read import Encoded, rows


def image(shade: int) -> Image.Image:
    return Image.new("RGB", (8, 6), (shade, shade, shade))


def shades(found: list[dict[str, Any]]) -> list[int]:
    return [decode(row["image"], 10**6).getpixel((0, 0))[0] for row in found]  # type: ignore[index]


def test_datasets_parquet_with_its_image_feature(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    data = {"image": [image(i) for i in range(5)], "text": [f"shade {i}" for i in range(5)]}
    datasets.Dataset.from_dict(data, features=features).to_parquet(str(tmp_path / "data.parquet"))
    found = rows(tmp_path)
    assert shades(found) == list(range(5))
    assert [row["caption"] for row in found] == data["text"]
    assert [row["key"] for row in found] == [f"{i:08d}" for i in range(5)]


def test_datasets_parquet_cut_inside_its_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "UNIT_ROWS", 3)
    features = datasets.Features({"image": datasets.Image()})
    data = datasets.Dataset.from_dict({"image": [image(i) for i in range(20)]}, features=features)
    data.to_parquet(str(tmp_path / "data.parquet"), batch_size=7)
    assert pq.ParquetFile(tmp_path / "data.parquet").num_row_groups > 1
    found = rows(tmp_path)
    assert shades(found) == list(range(20))
    assert len({row["image_id"] for row in found}) == 20
    assert len({row["unit"] for row in found}) == 7


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
                    "seg.png": image(200),
                    "png": image(i),
                }
            )
    found = rows(tmp_path)
    assert shades(found) == [0, 1, 2]
    assert [row["caption"] for row in found] == ["shade 0", "shade 1", "shade 2"]
    assert [json.loads(row["meta"])["shade"] for row in found] == [0, 1, 2]
    assert found[0]["key"] == "sub/0000"


def test_webdataset_gzipped_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "UNIT_ROWS", 2)
    with webdataset.TarWriter(str(tmp_path / "a.tar.gz"), compress=True) as writer:
        for i in range(5):
            writer.write({"__key__": f"{i}", "png": image(i)})
    assert (tmp_path / "a.tar.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert shades(rows(tmp_path)) == list(range(5))


def test_img2dataset_tars_with_their_metadata_beside(tmp_path: Path, encoded: Encoded) -> None:
    with webdataset.TarWriter(str(tmp_path / "00000.tar")) as writer:
        for i in range(2):
            writer.write(
                {"__key__": f"{i:09d}", "jpg": encoded(), "txt": "a", "json": {"url": "u"}}
            )
    metadata = pa.table(
        {"key": ["000000000", "000000001"], "url": ["u", "u"], "status": ["ok"] * 2}
    )
    pq.write_table(metadata, tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text('{"count": 2}')
    assert [row["key"] for row in rows(tmp_path)] == ["000000000", "000000001"]


def test_img2dataset_files_with_their_metadata_beside(tmp_path: Path) -> None:
    (tmp_path / "00000").mkdir()
    for i in range(3):
        image(i).save(tmp_path / "00000" / f"{i:09d}.png")
        (tmp_path / "00000" / f"{i:09d}.txt").write_text(f"shade {i}")
        (tmp_path / "00000" / f"{i:09d}.json").write_text('{"url": "u"}')
    pq.write_table(pa.table({"key": ["000000000"]}), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text('{"count": 3}')
    found = rows(tmp_path)
    assert shades(found) == [0, 1, 2]
    assert [row["caption"] for row in found] == ["shade 0", "shade 1", "shade 2"]
    assert {row["source"] for row in found} == {"00000"}


def test_img2dataset_parquet_with_bytes(tmp_path: Path, encoded: Encoded) -> None:
    table = pa.table({"key": ["a", "b"], "caption": ["x", None], "jpg": [encoded(), None]})
    pq.write_table(table, tmp_path / "00000.parquet")
    first, second = rows(tmp_path)
    assert (first["key"], first["caption"], first["error"]) == ("a", "x", None)
    assert second["error"] == "no_image: column jpg is null"


def test_a_folder_of_images_and_other_files(
    tmp_path: Path, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "UNIT_ROWS", 2)
    for name in ("b.PNG", "a.jpg", "c.webp", ".hidden.png"):
        (tmp_path / name).write_bytes(encoded())
    (tmp_path / "readme.md").write_text("not an image")
    (tmp_path / "labels.json").write_text("{}")
    (tmp_path / "a.txt").write_text("the first")
    found = rows(tmp_path)
    assert [(row["key"], row["caption"]) for row in found] == [
        ("a", "the first"),
        ("b", None),
        ("c", None),
    ]


def test_a_file_that_is_gone_since_the_index_is_a_failed_row(
    tmp_path: Path, encoded: Encoded
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encoded())
    (shard,) = find_shards((str(tmp_path),), Layout())
    (unit,) = read.index(shard, Layout())
    (tmp_path / "a.png").unlink()
    first, second = read.read(unit, Layout()).to_pylist()
    assert first["error"].startswith("unreadable: FileNotFoundError")
    assert second["error"] is None


def test_named_columns_are_taken(tmp_path: Path, encoded: Encoded) -> None:
    table = pa.table({"photo": [encoded()], "who": ["me"], "words": ["hi"], "extra": ["{}"]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(PreflightError, match=r"no image column; name it with --layout.image.*photo"):
        find_shards((str(tmp_path),), Layout())
    (row,) = rows(tmp_path, image="photo", key="who", caption="words", meta="extra")
    assert (row["key"], row["caption"], row["meta"]) == ("me", "hi", "{}")


@pytest.mark.parametrize(
    ("columns", "table", "message"),
    [
        ({"image": "photo"}, {"image": [b"x"]}, "--layout.image photo: the file has no such"),
        ({"meta": "m"}, {"image": [b"x"]}, "--layout.meta m: the file has no such column"),
        ({"image": "n"}, {"n": [1]}, "column n is int64, not binary"),
        ({}, {"url": ["u"]}, "no image column"),
    ],
)
def test_columns_that_cannot_be_are_refused(
    tmp_path: Path, columns: dict[str, str], table: dict[str, list[Any]], message: str
) -> None:
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(PreflightError, match=message):
        find_shards((str(tmp_path),), Layout(**columns))


def test_a_struct_with_a_path_and_no_bytes_says_so(tmp_path: Path) -> None:
    type_ = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": None, "path": "cat.jpg"}], type_)
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    (row,) = rows(tmp_path)
    assert row["error"] == "no_image: the row names cat.jpg and holds no bytes of it"


def test_a_later_parquet_file_of_other_columns_is_a_failed_row(
    tmp_path: Path, encoded: Encoded
) -> None:
    pq.write_table(pa.table({"image": [encoded()]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"url": ["u"]}), tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 not really PAR1")
    found = []
    for shard in find_shards((str(tmp_path),), Layout()):
        for unit in read.index(shard, Layout()):
            found += read.read(unit, Layout()).to_pylist()
    assert [(row["source"], (row["error"] or "ok").split(":")[0]) for row in found] == [
        ("a.parquet", "ok"),
        ("b.parquet", "damaged_shard"),
        ("c.parquet", "damaged_shard"),
    ]


def test_llava_json_with_its_images(
    tmp_path: Path, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "UNIT_ROWS", 2)
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "1.png").write_bytes(encoded())
    turns = [
        {"from": "human", "value": "<image>\nWas ist das? 这是什么?"},
        {"from": "gpt", "value": "é"},
    ]
    names = ["coco/1.png", None, "coco/gone.png", "../secret", "/etc/passwd"]
    samples = [{"id": i, "image": name, "conversations": turns} for i, name in enumerate(names)]
    del samples[1]["image"]
    for indent, ascii_ in ((None, True), (2, False)):
        text = json.dumps(samples, indent=indent, ensure_ascii=ascii_)
        (tmp_path / "llava.json").write_text(text, encoding="utf-8")
        (shard,) = find_shards((str(tmp_path / "llava.json"),), Layout())
        units = read.index(shard, Layout())
        assert [unit.rows for unit in units] == [2, 2, 1]
        found = [row for unit in units for row in read.read(unit, Layout()).to_pylist()]
        assert [json.loads(row["meta"]) for row in found] == samples
        assert [row["error"] and row["error"].split(":")[0] for row in found] == [
            None,
            "text_only",
            "unreadable",
            "no_image",
            "no_image",
        ]
        assert found[0]["image"] == encoded() and found[3]["image"] is None


def test_llava_json_with_images_elsewhere(tmp_path: Path, encoded: Encoded) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").write_bytes(encoded())
    (tmp_path / "llava.json").write_text('[{"id": "a", "image": "1.png", "conversations": []}]')
    layout = Layout(image_root=str(tmp_path / "elsewhere"))
    (shard,) = find_shards((str(tmp_path / "llava.json"),), layout)
    (unit,) = read.index(shard, layout)
    (row,) = read.read(unit, layout).to_pylist()
    assert (row["key"], row["image"], row["source"]) == ("a", encoded(), "llava.json")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", 0),
        ("{}", 0),
        ("[1]", 0),
        ('[{"id": 1}, {"id": 2', 1),
        ('[{"id": 1}, 2]', 1),
        ('{"id": 1}', 0),
        ("[]", None),
    ],
)
def test_json_that_is_no_list_of_samples_is_a_damaged_shard(
    tmp_path: Path, text: str, kept: int | None
) -> None:
    (tmp_path / "llava.json").write_text(text)
    (shard,) = find_shards((str(tmp_path / "llava.json"),), Layout())
    (unit,) = read.index(shard, Layout())
    found = read.read(unit, Layout()).to_pylist()
    if kept is None:
        assert found == []
    else:
        assert len(found) == kept + 1
        assert found[-1]["error"].startswith("damaged_shard: llava.json at byte ")


def test_globs_and_several_inputs(tmp_path: Path, encoded: Encoded) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in ("a.tar", "b.tar"):
            with webdataset.TarWriter(str(tmp_path / folder / name)) as writer:
                writer.write({"__key__": "0", "png": encoded()})
    found = find_shards((f"{tmp_path}/*/a.tar",), Layout())
    assert [shard.source for shard in found] == ["one/a.tar", "two/a.tar"]
    found = find_shards((f"{tmp_path}/one", f"{tmp_path}/two"), Layout())
    assert [shard.source for shard in found] == ["one/a.tar", "one/b.tar", "two/a.tar", "two/b.tar"]
    with pytest.raises(PreflightError, match=r"would both be one/a\.tar"):
        find_shards((f"{tmp_path}/one", f"{tmp_path}/one/a.tar"), Layout())
    with pytest.raises(PreflightError, match="matches nothing"):
        find_shards((f"{tmp_path}/three/*.tar",), Layout())


def test_a_mixed_folder_is_refused_with_a_way_out(tmp_path: Path, encoded: Encoded) -> None:
    pq.write_table(pa.table({"image": [encoded()]}), tmp_path / "a.parquet")
    with webdataset.TarWriter(str(tmp_path / "b.tar")) as writer:
        writer.write({"__key__": "0", "png": encoded()})
    with pytest.raises(PreflightError, match=r"holds parquet and tar files; name one kind"):
        find_shards((str(tmp_path),), Layout())
    assert len(find_shards((f"{tmp_path}/*.parquet",), Layout())) == 1


def test_damaged_bytes_inside_parquet_are_failed_rows(tmp_path: Path) -> None:
    noise = [np.random.default_rng(i).bytes(5000) for i in range(4)]
    pq.write_table(pa.table({"image": noise}), tmp_path / "a.parquet", compression="zstd")
    (shard,) = find_shards((str(tmp_path),), Layout())
    (unit,) = read.index(shard, Layout())
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[10:60] = bytes(50)
    (tmp_path / "a.parquet").write_bytes(content)
    found = read.read(unit, Layout()).to_pylist()
    assert len(found) == 4
    assert all(row["error"].startswith("damaged_shard: a.parquet row") for row in found)


def test_animated_images_give_their_first_frame() -> None:
    buffer = io.BytesIO()
    frames = [image(10), image(200)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert decode(buffer.getvalue(), 10**6).getpixel((0, 0)) == (10, 10, 10)
