"""Parquet files as other libraries write them, of images alone, of turns, and of our records."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from c3l_ray import schema
from c3l_ray.errors import PreflightError
from c3l_ray.inputs import read
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.inputs.units import is_digest
from c3l_ray.runs.commit import Manifest
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import RECORDS, conform
from tests.examples import RECORD, EncodeImage
from tests.inputs.messages import chat_messages, llava_messages
from tests.inputs.pictures import draw_shade, read_shades
from tests.inputs.shards import (
    DEFAULT_LAYOUT,
    find_shards,
    index_only_shard,
    read_rows,
)
from tests.inputs.turns import TWO_FOLLOWING, TWO_STANDING_ALONE, list_turns


def test_datasets_parquet_with_its_image_feature(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    data = {"image": [draw_shade(i) for i in range(5)], "text": [f"shade {i}" for i in range(5)]}
    datasets.Dataset.from_dict(data, features=features).to_parquet(str(tmp_path / "data.parquet"))
    rows = read_rows(tmp_path)
    assert read_shades(rows) == list(range(5))
    assert [row["caption"] for row in rows] == data["text"]
    assert [row["key"] for row in rows] == [f"{i:08d}" for i in range(5)]


def test_datasets_parquet_cut_inside_its_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "UNIT_ROWS", 3)
    features = datasets.Features({"image": datasets.Image()})
    images = {"image": [draw_shade(i) for i in range(20)]}
    data = datasets.Dataset.from_dict(images, features=features)
    data.to_parquet(str(tmp_path / "data.parquet"), batch_size=7)
    assert pq.ParquetFile(tmp_path / "data.parquet").num_row_groups > 1
    rows = read_rows(tmp_path)
    assert read_shades(rows) == list(range(20))
    assert len({row["image_id"] for row in rows}) == 20
    assert len({row["unit"] for row in rows}) == 7


def test_img2dataset_parquet_with_bytes(tmp_path: Path, encoded: EncodeImage) -> None:
    table = pa.table({"key": ["a", "b"], "caption": ["x", None], "jpg": [encoded(), None]})
    pq.write_table(table, tmp_path / "00000.parquet")
    first, second = read_rows(tmp_path)
    assert (first["key"], first["caption"], first["error"]) == ("a", "x", None)
    assert second["error"] == "no_image: column jpg is null"


def test_named_columns_are_taken(tmp_path: Path, encoded: EncodeImage) -> None:
    table = pa.table({"photo": [encoded()], "who": ["me"], "words": ["hi"], "extra": ["{}"]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(
        PreflightError, match=r"no image column; name it with --layout.image.*photo"
    ):
        find_shards(tmp_path)
    layout = Layout(image="photo", key="who", caption="words", meta="extra")
    (row,) = read_rows(tmp_path, layout)
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
def test_unsuitable_columns_are_refused(
    tmp_path: Path, columns: dict[str, str], table: dict[str, list[Any]], message: str
) -> None:
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(PreflightError, match=message):
        find_shards(tmp_path, layout=Layout(**columns))


def test_a_struct_with_a_path_and_no_bytes_says_so(tmp_path: Path) -> None:
    type_ = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": None, "path": "cat.jpg"}], type_)
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    (row,) = read_rows(tmp_path)
    assert row["error"] == "no_image: the row names cat.jpg and holds no bytes of it"


def test_a_later_parquet_file_of_other_columns_is_a_failed_row(
    tmp_path: Path, encoded: EncodeImage
) -> None:
    pq.write_table(pa.table({"image": [encoded()]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"url": ["u"]}), tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 not really PAR1")
    rows = []
    for shard in find_shards(tmp_path):
        for unit in read.index_shard(shard, DEFAULT_LAYOUT):
            rows += read.read_unit(unit, DEFAULT_LAYOUT).to_pylist()
    assert [(row["source"], (row["error"] or "ok").split(":")[0]) for row in rows] == [
        ("a.parquet", "ok"),
        ("b.parquet", "damaged_shard"),
        ("c.parquet", "damaged_shard"),
    ]


def test_damaged_bytes_are_failed_rows(tmp_path: Path) -> None:
    noise = [np.random.default_rng(i).bytes(5000) for i in range(4)]
    pq.write_table(pa.table({"image": noise}), tmp_path / "a.parquet", compression="zstd")
    (unit,) = index_only_shard(tmp_path)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[10:60] = bytes(50)
    (tmp_path / "a.parquet").write_bytes(content)
    rows = read.read_unit(unit, DEFAULT_LAYOUT).to_pylist()
    assert len(rows) == 4
    assert all(row["error"].startswith("damaged_shard: a.parquet row") for row in rows)


PAIRS = [{"question": "Q", "answer": "A"}, {"question": "R", "answer": "B"}]
LLAVA = llava_messages(("human", "<image>\nQ"), ("gpt", "A"), ("human", "R"), ("gpt", "B"))
CHAT = chat_messages(("user", "<image>\nQ"), ("assistant", "A"), ("user", "R"), ("assistant", "B"))
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any], list[Any]]] = {
    "turns": ({"turns": PAIRS}, {}, TWO_STANDING_ALONE),
    "turns that follow": ({"turns": PAIRS}, {"history": "yes"}, TWO_FOLLOWING),
    "LLaVA's words": ({"conversations": LLAVA}, {}, TWO_FOLLOWING),
    "LLaVA's words, each alone": (
        {"conversations": LLAVA},
        {"history": "no"},
        TWO_STANDING_ALONE,
    ),
    "chat": ({"messages": CHAT}, {}, TWO_FOLLOWING),
    "a named column": ({"dialogue": CHAT}, {"turns": "dialogue"}, TWO_FOLLOWING),
    "flat": ({"question": "<image>\nQ", "answer": "A"}, {}, TWO_STANDING_ALONE[:1]),
    "flat and named": (
        {"q": "Q", "a": "A"},
        {"question": "q", "answer": "a"},
        TWO_STANDING_ALONE[:1],
    ),
    "two forms, one named": (
        {"turns": PAIRS, "q": "Q", "answer": "A"},
        {"question": "q"},
        TWO_STANDING_ALONE[:1],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_turns_come_in_many_forms(form: str, tmp_path: Path, encoded: EncodeImage) -> None:
    columns, layout, expected = FORMS[form]
    table = {name: [value, None, value] for name, value in columns.items()}
    pq.write_table(
        pa.table({"image": [encoded(), encoded(), None], **table}), tmp_path / "a.parquet"
    )
    good, without_turns, text_only = read_rows(tmp_path, TurnsLayout(**layout))
    assert list_turns(good) == expected and good["error"] is None
    if form == "two forms, one named" or not isinstance(next(iter(columns.values())), list):
        assert without_turns["error"] == "no_turn: missing_question"
    else:
        assert without_turns["error"] == "no_turn: the sample has no question and answer"
    assert text_only["error"].startswith("text_only") and list_turns(text_only) == expected


def test_messages_in_parts_as_datasets_writes_them(tmp_path: Path, encoded: EncodeImage) -> None:
    content = [{"type": "image", "text": None}, {"type": "text", "text": "Q"}]
    answer = [{"type": "text", "text": "A"}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    image = Image.open(io.BytesIO(encoded()))
    data = datasets.Dataset.from_dict({"image": [image], "messages": [messages]})
    data.to_parquet(str(tmp_path / "a.parquet"))
    (row,) = read_rows(tmp_path / "a.parquet", TurnsLayout())
    assert list_turns(row) == TWO_STANDING_ALONE[:1] and row["error"] is None


@pytest.mark.parametrize(
    ("layout", "table", "message"),
    [
        (
            {},
            {"image": [b"x"]},
            r"no turns; name their column with --layout\.turns.*image \(binary",
        ),
        ({"turns": "t"}, {"image": [b"x"]}, r"--layout\.turns t: the file has no such column"),
        ({"turns": "t"}, {"image": [b"x"], "t": [["Q"]]}, r"t: is list<.*string>, not a list of"),
        (
            {"answer": "a"},
            {"image": [b"x"], "question": ["Q"]},
            r"--layout\.answer a: the file has",
        ),
        (
            {},
            {"image": [b"x"], "question": ["Q"], "answer": [["A"]]},
            "answer is list<.*, not text",
        ),
    ],
)
def test_columns_without_turns_are_refused(
    tmp_path: Path, layout: dict[str, Any], table: dict[str, list[Any]], message: str
) -> None:
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(PreflightError, match=message):
        find_shards(tmp_path, layout=TurnsLayout(**layout))


@pytest.mark.parametrize("where", ["local", "s3"])
def test_records_of_an_earlier_run_keep_what_they_are(
    where: str, tmp_path: Path, encoded: EncodeImage, request: pytest.FixtureRequest
) -> None:
    follow_up = {**RECORD["turns"][0], "kind": "follow_up"}
    records = [
        {**RECORD, "image": encoded()},
        {**RECORD, "image_id": "2" * 16, "image": encoded(), "turns": [follow_up] * 2},
        {
            **RECORD,
            "image_id": "3" * 16,
            "status": "failed",
            "error": "undecodable: x",
            "turns": [],
        },
        {**RECORD, "image_id": "4" * 16, "status": "failed", "error": "no_turn: refused"},
    ]
    table = conform({name: [row[name] for row in records] for name in RECORDS.names}, RECORDS)
    path = str(tmp_path / "run") if where == "local" else f"{request.getfixturevalue('s3')}/run"
    folder = RunFolder.open(path)
    content = io.BytesIO()
    pq.write_table(table, content)
    for name in ("records/u-1.parquet", "records/u-lost.parquet", "dataset/part-00000.parquet"):
        folder.write(name, content.getvalue())
    committed = Manifest(unit="u", source="a", origin="o", attempt="1", file="records/u-1.parquet")
    folder.write_json("manifests/u.json", dataclasses.asdict(committed))
    folder.write_json("run.json", {"job": "score", "identity": {"schema": schema.VERSION}})
    rows = read_rows(path, TurnsLayout())
    for row, before in zip(rows, records, strict=True):
        kept = ("image_id", "source", "key", "meta", "caption", "image")
        assert [row[name] for name in kept] == [before[name] for name in kept]
        assert all(turn["scores"] is None for turn in row["turns"])
    assert [turn["kind"] for turn in rows[0]["turns"]] == ["dialogue", "yes_no"]
    assert [turn["status"] for turn in rows[0]["turns"]] == ["ok", "unparsable"]
    assert [turn["kind"] for turn in rows[1]["turns"]] == ["follow_up", "follow_up"]
    errors = [row["error"] and row["error"].split(":")[0] for row in rows]
    assert errors == [None, None, "undecodable", "no_image"]


def test_an_image_id_that_is_no_digest_is_not_taken(tmp_path: Path, encoded: EncodeImage) -> None:
    records = [{**RECORD, "image": encoded(), "image_id": "../../outside"}]
    table = conform({name: [row[name] for row in records] for name in RECORDS.names}, RECORDS)
    pq.write_table(table, tmp_path / "a.parquet")
    (row,) = read_rows(tmp_path, TurnsLayout())
    assert is_digest(row["image_id"]) and (row["key"], row["error"]) == (RECORD["key"], None)
