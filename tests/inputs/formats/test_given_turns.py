"""Turns that came with their images: LLaVA's JSON, Parquet in every form, our own records."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from c3l_ray.config import Layout, TurnsLayout
from c3l_ray.inputs import read
from c3l_ray.runs.folder import Manifest, Output, to_records
from c3l_ray.inputs.formats import llava_json
from c3l_ray.inputs.read import find_shards
from c3l_ray.errors import PreflightError
from c3l_ray.schema import STAGED_ROWS, RECORDS, conform
from tests.inputs.test_read import Encoded
from tests.runs.test_statistics import llava as said
from tests.test_schema import RECORD

TWO = said(("human", "<image>\nQ"), ("gpt", "A"), ("human", "R"), ("gpt", "B"))


def rows(path: Path | str, layout: Layout | None = None) -> list[dict[str, Any]]:
    layout = layout or TurnsLayout()
    (shard,) = find_shards((str(path),), layout)
    tables = [read.read(unit, layout) for unit in read.index(shard, layout)]
    assert all(table.schema.equals(STAGED_ROWS) for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def texts(row: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [(t["kind"], t["question"], t["answer"], t["status"]) for t in row["turns"]]


FOLLOWING = [("given", "Q", "A", "ok"), ("follow_up", "R", "B", "ok")]
APART = [("given", "Q", "A", "ok"), ("given", "R", "B", "ok")]


@pytest.fixture
def folder(tmp_path: Path, encoded: Encoded) -> Path:
    for name in ("coco/train2017", "gqa/images"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").write_bytes(encoded())
    return tmp_path


SAMPLES: dict[str, tuple[dict[str, Any], str | None, int]] = {
    "good": ({"id": 1, "image": "coco/train2017/1.png", "conversations": TWO}, None, 2),
    "another folder": ({"id": "b", "image": "gqa/images/1.png", "conversations": TWO}, None, 2),
    "text only": ({"id": "c", "conversations": TWO}, "text_only", 2),
    "text only, an empty name": ({"id": "d", "image": "", "conversations": TWO}, "text_only", 2),
    "the image is gone": ({"id": "e", "image": "gone.jpg", "conversations": TWO}, "unreadable", 2),
    "a folder": ({"id": "f", "image": "coco", "conversations": TWO}, "unreadable", 2),
    "through a file": (
        {"id": "g", "image": "gqa/images/1.png/x", "conversations": TWO},
        "unreadable",
        2,
    ),
    "a name too long": ({"id": "h", "image": "x" * 999, "conversations": TWO}, "unreadable", 2),
    "leads outside": ({"id": "i", "image": "../x.png", "conversations": TWO}, "no_image", 2),
    "no name": ({"id": "j", "image": {"bytes": "x"}, "conversations": TWO}, "no_image", 2),
    "two images": ({"id": "k", "image": ["a.png", "b.png"]}, "several_images", 0),
    "no id": ({"image": ["gqa/images/1.png"], "messages": TWO}, None, 2),
    "no conversation": ({"id": "l", "image": "gqa/images/1.png"}, "no_turn", 0),
    "half a surrogate": (
        {"id": "m\ud83d", "image": "gqa/images/1.png", "conversations": TWO},
        None,
        2,
    ),
}


@pytest.mark.parametrize("ending", ["json", "jsonl"])
@pytest.mark.parametrize("read_at_once", [5, 2**20])
def test_every_sample_of_a_llava_json_is_a_row(
    folder: Path, ending: str, read_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llava, "READ_AT_ONCE", read_at_once)
    monkeypatch.setattr(shards, "UNIT_ROWS", 4)
    samples = [sample for sample, _, _ in SAMPLES.values()]
    samples[0] = {**samples[0], "note": "这是什么? é"}
    if ending == "json":
        text = json.dumps(samples, indent=1, ensure_ascii=False)
    else:
        text = "\n".join(json.dumps(sample, ensure_ascii=False) for sample in samples) + "\n"
    content = text.replace("\ud83d", "\\ud83d").encode()
    (folder / f"mix.{ending}").write_bytes(content)
    found = rows(folder / f"mix.{ending}")
    reasons = [row["error"] and row["error"].split(":")[0] for row in found]
    assert reasons == [reason for _, reason, _ in SAMPLES.values()]
    assert [len(row["turns"]) for row in found] == [number for _, _, number in SAMPLES.values()]
    assert texts(found[0]) == FOLLOWING
    assert all(row["image"] is not None for row in found if row["error"] is None)
    assert len({row["image_id"] for row in found}) == len(SAMPLES)
    assert [json.loads(row["meta"]) for row in found][:-1] == samples[:-1]
    assert (found[0]["key"], found[-1]["key"]) == ("1", "m?")


def test_conversations_are_left_alone_where_turns_are_to_be_made(folder: Path) -> None:
    (folder / "a.json").write_text(json.dumps([SAMPLES["good"][0]]))
    assert rows(folder / "a.json", Layout())[0]["turns"] is None


def test_a_text_only_sample_is_no_failure(folder: Path) -> None:
    samples = [SAMPLES[name][0] for name in ("good", "text only", "the image is gone")]
    (folder / "a.json").write_text(json.dumps(samples))
    (shard,) = find_shards((str(folder / "a.json"),), TurnsLayout())
    (unit,) = read.index(shard, TurnsLayout())
    table = read.read(unit, TurnsLayout())
    assert to_records(table, "o")["status"].to_pylist() == ["ok", "text_only", "failed"]
    manifest = Output(str(folder / "run")).commit("u", "a.json", table, "o")
    assert manifest.status == {"ok": 1, "text_only": 1, "failed": 1}
    assert manifest.reasons == {"unreadable": 1}


def test_images_that_are_elsewhere_are_told_before_the_start(folder: Path) -> None:
    (folder / "lists").mkdir()
    path = folder / "lists" / "a.json"
    names = [f"{i}.jpg" for i in range(99)]
    path.write_text(json.dumps([{"id": name, "image": name} for name in names]))
    with pytest.raises(PreflightError, match=r"first 16 images, 0\.jpg and so on.*--layout\.image-root"):
        find_shards((str(path),), TurnsLayout())
    path.write_text(json.dumps([SAMPLES[name][0] for name in ("the image is gone", "good")]))
    with pytest.raises(PreflightError, match="first 2 images"):
        find_shards((str(path),), TurnsLayout())
    find_shards((str(path),), TurnsLayout(image_root=str(folder)))


def messages(first: str, second: str, *roles: str) -> list[dict[str, str]]:
    values = ("<image>\nQ", "A", "R", "B")
    return [{first: role, second: value} for role, value in zip(roles, values, strict=True)]


PAIRED = [{"question": "Q", "answer": "A"}, {"question": "R", "answer": "B"}]
FORMS: dict[str, tuple[dict[str, Any], dict[str, str], list[Any]]] = {
    "turns": ({"turns": PAIRED}, {}, APART),
    "turns that follow": ({"turns": PAIRED}, {"history": "yes"}, FOLLOWING),
    "LLaVA's words": (
        {"conversations": messages("from", "value", "human", "gpt", "human", "gpt")},
        {},
        FOLLOWING,
    ),
    "LLaVA's words, each alone": (
        {"conversations": messages("from", "value", "human", "gpt", "human", "gpt")},
        {"history": "no"},
        APART,
    ),
    "chat": (
        {"messages": messages("role", "content", "user", "assistant", "user", "assistant")},
        {},
        FOLLOWING,
    ),
    "a named column": (
        {"dialogue": messages("role", "content", "user", "assistant", "user", "assistant")},
        {"turns": "dialogue"},
        FOLLOWING,
    ),
    "flat": ({"question": "<image>\nQ", "answer": "A"}, {}, APART[:1]),
    "flat and named": ({"q": "Q", "a": "A"}, {"question": "q", "answer": "a"}, APART[:1]),
    "two forms, one named": (
        {"turns": PAIRED, "q": "Q", "answer": "A"},
        {"question": "q"},
        APART[:1],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_parquet_holds_turns_in_many_forms(form: str, tmp_path: Path, encoded: Encoded) -> None:
    columns, layout, expected = FORMS[form]
    table = {name: [value, None, value] for name, value in columns.items()}
    pq.write_table(
        pa.table({"image": [encoded(), encoded(), None], **table}), tmp_path / "a.parquet"
    )
    good, without_turns, text_only = rows(tmp_path, TurnsLayout(**layout))  # type: ignore[arg-type]
    assert texts(good) == expected and good["error"] is None
    if form == "two forms, one named" or not isinstance(next(iter(columns.values())), list):
        assert without_turns["error"] == "no_turn: unasked"
    else:
        assert without_turns["error"] == "no_turn: the sample has no question and answer"
    assert text_only["error"].startswith("text_only") and texts(text_only) == expected


def test_messages_in_parts_as_datasets_writes_them(tmp_path: Path, encoded: Encoded) -> None:
    content = [{"type": "image", "text": None}, {"type": "text", "text": "Q"}]
    answer = [{"type": "text", "text": "A"}]
    said = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    image = Image.open(io.BytesIO(encoded()))
    data = datasets.Dataset.from_dict({"image": [image], "messages": [said]})
    data.to_parquet(str(tmp_path / "a.parquet"))
    (row,) = rows(tmp_path / "a.parquet")
    assert texts(row) == APART[:1] and row["error"] is None


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
def test_columns_that_hold_no_turns_are_refused(
    tmp_path: Path, layout: dict[str, str], table: dict[str, list[Any]], message: str
) -> None:
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(PreflightError, match=message):
        find_shards((str(tmp_path),), TurnsLayout(**layout))  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["local", "s3"])
def test_records_of_an_earlier_run_keep_what_they_are(
    where: str, tmp_path: Path, encoded: Encoded, request: pytest.FixtureRequest
) -> None:
    follow_up = {**RECORD["turns"][0], "kind": "follow_up"}
    ours = [
        {**RECORD, "image": encoded()},
        {**RECORD, "image_id": "two", "image": encoded(), "turns": [follow_up] * 2},
        {**RECORD, "image_id": "three", "status": "failed", "error": "undecodable: x", "turns": []},
        {**RECORD, "image_id": "four", "status": "failed", "error": "no_turn: refused"},
    ]
    table = conform({name: [row[name] for row in ours] for name in RECORDS.names}, RECORDS)
    path = str(tmp_path / "run") if where == "local" else f"{request.getfixturevalue('s3')}/run"
    run = Output(path)
    content = io.BytesIO()
    pq.write_table(table, content)
    for name in ("records/u-1.parquet", "records/u-lost.parquet", "dataset/part-00000.parquet"):
        run.put(name, content.getvalue())
    committed = Manifest(unit="u", source="a", origin="o", attempt="1", file="records/u-1.parquet")
    run.write_json("manifests/u.json", dataclasses.asdict(committed))
    found = rows(path)
    for row, before in zip(found, ours, strict=True):
        same = ("image_id", "source", "key", "meta", "caption", "image")
        assert [row[name] for name in same] == [before[name] for name in same]
        assert all(turn["scores"] is None for turn in row["turns"])
    assert [t["kind"] for t in found[0]["turns"]] == ["dialogue", "yes_no"]
    assert [t["status"] for t in found[0]["turns"]] == ["ok", "unparsable"]
    assert [t["kind"] for t in found[1]["turns"]] == ["follow_up", "follow_up"]
    errors = [row["error"] and row["error"].split(":")[0] for row in found]
    assert errors == [None, None, "undecodable", "no_image"]
