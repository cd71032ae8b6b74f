import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inputs import read
from c3l_ray.inputs.formats import llava_json
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.runs.commit import commit_unit, make_records
from c3l_ray.runs.folder import RunFolder
from tests.examples import EncodeImage
from tests.inputs.messages import llava_messages
from tests.inputs.shards import DEFAULT_LAYOUT, find_shards, index_only_shard, read_rows
from tests.inputs.turns import TWO_FOLLOWING, list_turns

TWO = llava_messages(("human", "<image>\nQ"), ("gpt", "A"), ("human", "R"), ("gpt", "B"))
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


@pytest.fixture
def folder(tmp_path: Path, encoded: EncodeImage) -> Path:
    """A folder with two of the images that the samples name."""
    for name in ("coco/train2017", "gqa/images"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").write_bytes(encoded())
    return tmp_path


@pytest.mark.parametrize("ending", ["json", "jsonl"])
@pytest.mark.parametrize("chunk_bytes", [5, 2**20])
def test_every_sample_is_a_row(
    folder: Path, ending: str, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llava_json, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(read, "UNIT_ROWS", 4)
    samples = [sample for sample, _, _ in SAMPLES.values()]
    samples[0] = {**samples[0], "note": "这是什么? é"}
    if ending == "json":
        text = json.dumps(samples, indent=1, ensure_ascii=False)
    else:
        text = "\n".join(json.dumps(sample, ensure_ascii=False) for sample in samples) + "\n"
    content = text.replace("\ud83d", "\\ud83d").encode()
    (folder / f"mix.{ending}").write_bytes(content)
    rows = read_rows(folder / f"mix.{ending}", TurnsLayout())
    reasons = [row["error"] and row["error"].split(":")[0] for row in rows]
    assert reasons == [reason for _, reason, _ in SAMPLES.values()]
    assert [len(row["turns"]) for row in rows] == [number for _, _, number in SAMPLES.values()]
    assert list_turns(rows[0]) == TWO_FOLLOWING
    assert all(row["image"] is not None for row in rows if row["error"] is None)
    assert len({row["image_id"] for row in rows}) == len(SAMPLES)
    assert [json.loads(row["meta"]) for row in rows][:-1] == samples[:-1]
    assert (rows[0]["key"], rows[-1]["key"]) == ("1", "m?")


def test_conversations_are_left_alone_where_turns_are_to_be_made(folder: Path) -> None:
    (folder / "a.json").write_text(json.dumps([SAMPLES["good"][0]]))
    assert read_rows(folder / "a.json")[0]["turns"] is None


def test_a_text_only_sample_is_no_failure(folder: Path) -> None:
    samples = [SAMPLES[name][0] for name in ("good", "text only", "the image is gone")]
    (folder / "a.json").write_text(json.dumps(samples))
    (unit,) = index_only_shard(folder / "a.json", TurnsLayout())
    table = read.read_unit(unit, TurnsLayout())
    assert make_records(table, "o")["status"].to_pylist() == ["ok", "text_only", "failed"]
    manifest = commit_unit(RunFolder.open(str(folder / "run")), "u", "a.json", table, "o")
    assert manifest.counts.status == {"ok": 1, "text_only": 1, "failed": 1}
    assert manifest.counts.reasons == {"unreadable": 1}


def test_images_that_are_elsewhere_are_told_before_the_start(folder: Path) -> None:
    (folder / "lists").mkdir()
    path = folder / "lists" / "a.json"
    names = [f"{i}.jpg" for i in range(99)]
    path.write_text(json.dumps([{"id": name, "image": name} for name in names]))
    with pytest.raises(
        PreflightError, match=r"first 16 images, 0\.jpg and so on.*--layout\.image-root"
    ):
        find_shards(path, layout=TurnsLayout())
    path.write_text(json.dumps([SAMPLES[name][0] for name in ("the image is gone", "good")]))
    with pytest.raises(PreflightError, match="first 2 images"):
        find_shards(path, layout=TurnsLayout())
    find_shards(path, layout=TurnsLayout(image_root=str(folder)))


def test_samples_are_rows_without_turns_too(
    tmp_path: Path, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "UNIT_ROWS", 2)
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "1.png").write_bytes(encoded())
    messages = llava_messages(("human", "<image>\nWas ist das? 这是什么?"), ("gpt", "é"))
    names = ["coco/1.png", None, "coco/gone.png", "../secret", "/etc/passwd"]
    samples = [{"id": i, "image": name, "conversations": messages} for i, name in enumerate(names)]
    del samples[1]["image"]
    for indent, is_ascii in ((None, True), (2, False)):
        text = json.dumps(samples, indent=indent, ensure_ascii=is_ascii)
        (tmp_path / "llava.json").write_text(text, encoding="utf-8")
        units = index_only_shard(tmp_path / "llava.json")
        assert [unit.rows for unit in units] == [2, 2, 1]
        rows = read_rows(tmp_path / "llava.json")
        assert [json.loads(row["meta"]) for row in rows] == samples
        assert [row["error"] and row["error"].split(":")[0] for row in rows] == [
            None,
            "text_only",
            "unreadable",
            "no_image",
            "no_image",
        ]
        assert rows[0]["image"] == encoded() and rows[3]["image"] is None


def test_images_may_lie_elsewhere(tmp_path: Path, encoded: EncodeImage) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").write_bytes(encoded())
    (tmp_path / "llava.json").write_text('[{"id": "a", "image": "1.png", "conversations": []}]')
    layout = Layout(image_root=str(tmp_path / "elsewhere"))
    (row,) = read_rows(tmp_path / "llava.json", layout)
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
    (unit,) = index_only_shard(tmp_path / "llava.json")
    rows = read.read_unit(unit, DEFAULT_LAYOUT).to_pylist()
    if kept is None:
        assert rows == []
    else:
        assert len(rows) == kept + 1
        assert rows[-1]["error"].startswith("damaged_shard: llava.json at byte ")
