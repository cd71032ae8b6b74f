import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inputs import read
from c3l_ray.inputs.formats import json_text
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.runs.commit import commit_unit, make_records
from c3l_ray.runs.folder import RunFolder
from tests.examples import EncodeImage
from tests.inputs.messages import llava_messages
from tests.inputs.shards import find_shards, index_only_shard, read_rows
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
    monkeypatch.setattr(json_text, "CHUNK_BYTES", chunk_bytes)
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
        PreflightError,
        match=r"first 16 images cannot.*: 0\.jpg is not.*--layout\.image-root",
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


def write_sample(folder: Path, **fields: Any) -> str:
    return json.dumps({"image": "coco/train2017/1.png", "conversations": TWO, **fields})


@pytest.mark.parametrize("ending", [", {", ", 2", "]]", "] and more", ""])
def test_a_list_that_breaks_off_keeps_what_comes_before(folder: Path, ending: str) -> None:
    text = f"[{write_sample(folder, id=1)}, {write_sample(folder, id=2)}{ending}"
    (folder / "a.json").write_text(text)
    rows = read_rows(folder / "a.json", TurnsLayout())
    assert [row["error"] for row in rows[:2]] == [None, None]
    assert rows[-1]["error"].startswith("damaged_shard: a.json at byte ")


def test_an_empty_list_has_no_rows(folder: Path) -> None:
    (folder / "a.json").write_text("[]")
    assert read_rows(folder / "a.json") == []


NOWHERE = "/nowhere/1.png"
REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": ("", "holds no sample that can be read: byte 0"),
    "a number": ("3", "holds no sample that can be read: byte 0: not a sample"),
    "no list": ("{}", "holds no sample that can be read: byte 0.*an object of nothing"),
    "numbers": ([1, 2], "holds no sample that can be read: byte 1: not a sample"),
    "COCO": (
        {"images": [{"file_name": "1.png"}], "annotations": [{"image_id": 1, "caption": "c"}]},
        "first 1 images cannot be read",
    ),
    "no image": ([{"id": 1, "photo": "x"}], "names an image; a sample has the fields id, photo"),
    "no turn": (
        [{"image": "coco/train2017/1.png", "text": "c"}],
        "has a turn; a sample has the fields image, text.*query and response",
    ),
    "outside": (
        [{"image": NOWHERE, "conversations": TWO}] * 3,
        f"first 3 images cannot be read.*{NOWHERE} leads out of .*--layout.image-root",
    ),
    "half a surrogate": (
        [{"image": "\ud83d: x", "conversations": TWO}],
        "the first: [?]: x is not in .*--layout.image-root names the folder",
    ),
    "an address": (
        [{"image": "https://host.invalid/1.png", "conversations": TWO}],
        "https://host.invalid/1.png is neither a file's name nor in",
    ),
    "several images": (
        [{"image": ["a.png", "b.png"], "conversations": TWO}],
        "several_images: the sample names 2",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_list_of_which_nothing_is_of_use_is_refused(folder: Path, case: str) -> None:
    content, message = REFUSED[case]
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "a.json").write_text(text)
    with pytest.raises(PreflightError, match=message):
        find_shards(folder / "a.json", layout=TurnsLayout())


def test_samples_before_the_first_image_do_not_refuse_a_list(folder: Path) -> None:
    samples = [{"id": i, "conversations": TWO} for i in range(99)]
    samples.append(json.loads(write_sample(folder, id="good")))
    (folder / "a.json").write_text(json.dumps(samples))
    rows = read_rows(folder / "a.json", TurnsLayout())
    assert [row["error"] for row in rows[-2:]] == ["text_only: the sample names no image", None]


@pytest.mark.parametrize("root", [None, "coco", "/"])
def test_an_absolute_path_is_read_where_it_lies_in_the_images_folder(
    folder: Path, encoded: EncodeImage, root: str | None
) -> None:
    samples = [{"image": str(folder / "coco/train2017/1.png"), "conversations": TWO}]
    (folder / "a.json").write_text(json.dumps(samples))
    layout = TurnsLayout(image_root=root and str(folder / root))
    (row,) = read_rows(folder / "a.json", layout)
    assert (row["error"], row["image"]) == (None, encoded())


def test_units_are_bounded_by_the_bytes_of_the_images(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [100, 3000, 100, 9000, 9000, 100]
    for number, size in enumerate(sizes):
        (folder / f"{number}.jpg").write_bytes(bytes(size))
    samples = [{"image": f"{number}.jpg", "conversations": []} for number in range(len(sizes))]
    (folder / "a.json").write_text(json.dumps(samples))
    monkeypatch.setattr(read, "UNIT_BYTES", 4000)
    units = index_only_shard(folder / "a.json")
    assert [unit.rows for unit in units] == [3, 1, 1, 1]
    assert [unit.size > 9000 for unit in units] == [False, True, True, False]
    assert len(read_rows(folder / "a.json")) == len(sizes)
