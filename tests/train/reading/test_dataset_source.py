"""Datasets read as records are, without a run before them."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.inputs import read
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.scenes.world import write_shard
from c3l_ray.schema import Record
from c3l_ray.train.reading import scan
from c3l_ray.train.reading.dataset_source import DatasetSource
from tests.examples import EncodeImage
from tests.inputs.messages import llava_messages

TWO_TURNS = llava_messages(("human", "<image>\nQ"), ("gpt", "A"), ("human", "R"), ("gpt", "B"))
GOOD_SAMPLE = json.dumps({"id": 1, "image": "0.png", "conversations": TWO_TURNS})
WriteList = Callable[[str, list[dict[str, Any]]], Path]


@pytest.fixture
def write_list(tmp_path: Path, encoded: EncodeImage) -> WriteList:
    """Writes a list of samples beside a folder of images 0.png to 9.png."""
    (tmp_path / "coco").mkdir()
    for number in range(10):
        (tmp_path / "coco" / f"{number}.png").write_bytes(encoded((30 + number, 30)))

    def write(name: str, samples: list[dict[str, Any]]) -> Path:
        (tmp_path / name).write_text(json.dumps(samples))
        return tmp_path / name

    return write


def make_samples(num: int) -> list[dict[str, Any]]:
    return [{"id": i % 7, "image": f"{i % 10}.png", "conversations": TWO_TURNS} for i in range(num)]


def open_lists(*paths: Path, **layout: Any) -> DatasetSource:
    root = str(paths[0].parent / "coco")
    return DatasetSource(tuple(map(str, paths)), TurnsLayout(image_root=root, **layout), "turns")


def test_rows_are_the_records_that_scoring_would_make(
    write_list: WriteList, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(read, "UNIT_ROWS", 8)
    paths = write_list("a.json", make_samples(20)), write_list("b.json", make_samples(3))
    monkeypatch.chdir(tmp_path)
    source = DatasetSource(tuple(map(str, paths)), TurnsLayout(image_root="coco"), "turns")
    monkeypatch.chdir("/")
    source = pickle.loads(pickle.dumps(source))  # as reading tasks have it
    expected = [
        row
        for shard in source.shards
        for unit in read.index_shard(shard, source.layout)
        for row in read.read_unit(unit, source.layout).to_pylist()
    ]
    files = list(source.texts())
    assert [len(records) for _, records in files] == [8, 8, 4, 3]
    texts = [record for _, records in files for record in records]
    for record, row in zip(texts, expected, strict=True):
        assert record["image"] is None and record["status"] == "ok"
        assert (record["image_id"], record["source"]) == (row["image_id"], row["source"])
        for turn, expected_turn in zip(record["turns"], row["turns"], strict=True):
            assert turn["kind"] == expected_turn["kind"]
            assert turn["question"] == expected_turn["question"]
            assert turn["answer"] == expected_turn["answer"]
            assert turn["status"] == expected_turn["status"]
    # Ids come again, image_ids do not.
    assert len({record["image_id"] for record in texts}) == 23
    for (address, _), first in zip(files, (0, 8, 16, 20), strict=True):
        records = source.read(address, [2, 0])
        rows = [expected[first + number] for number in (2, 0)]
        assert [record["image_id"] for record in records] == [row["image_id"] for row in rows]
        assert [record["image"] for record in records] == [row["image"] for row in rows]


@pytest.mark.parametrize(("history", "places"), [("auto", {0}), ("no", {0, 1})])
def test_turns_are_learnt_or_held_out_with_their_image(
    write_list: WriteList, history: Any, places: set[int]
) -> None:
    unusable: list[dict[str, Any]] = [
        {"id": "none", "conversations": TWO_TURNS},
        {"id": "two", "image": ["0.png", "1.png"]},
    ]
    source = open_lists(write_list("a.json", [*make_samples(60), *unusable]), history=history)

    def find_sets(record: Record) -> dict[int, str]:
        if record["status"] != "ok":
            return {}
        return {
            place: record["source"]
            for place, turn in enumerate(record["turns"])
            if turn["kind"] == "given"
        }

    turns, held_out = scan.find_turns_by_set(
        source.texts(), find_sets, held_out_share=0.3, max_held_out=100
    )
    assert list(turns) == ["a.json"]
    learnt_rows = {turn.row for turn in turns["a.json"]}
    held_out_rows = {row for file in held_out for row in file.rows}
    assert learnt_rows | held_out_rows == set(range(60)) and not learnt_rows & held_out_rows
    assert 5 < len(held_out_rows) < 40
    assert len(turns["a.json"]) == len(places) * len(learnt_rows)
    assert {turn.place for turn in turns["a.json"]} == places
    same_turns, first_held_out = scan.find_turns_by_set(
        source.texts(), find_sets, held_out_share=0.3, max_held_out=2
    )
    assert same_turns == turns and sum(len(file.rows) for file in first_held_out) == 2


def test_the_digest_is_of_the_content(write_list: WriteList) -> None:
    path = write_list("a.json", make_samples(3))
    digests = open_lists(path).digests()
    assert open_lists(path).digests() == digests
    path.write_text(path.read_text().replace('"A"', '"C"'))
    assert open_lists(path).digests() != digests


def test_a_missing_image_is_none_and_a_missing_list_an_error(write_list: WriteList) -> None:
    path = write_list("a.json", make_samples(3))
    source = open_lists(path)
    ((address, _),) = source.texts()
    (path.parent / "coco" / "1.png").unlink()
    records = source.read(address, [0, 1, 2])
    assert [record["image"] is None for record in records] == [False, True, False]
    path.unlink()
    with pytest.raises(C3LError, match=r"a\.json or its images cannot be read"):
        source.read(address, [0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"[{GOOD_SAMPLE}", r"a\.json: damaged at byte \d+: the list does not end"),
        (f"[{GOOD_SAMPLE}, null]", r"a\.json: damaged_sample: a\.json at byte \d+: not a sample"),
        ("{}", r"a\.json: holds no sample that can be read: byte 0"),
    ],
)
def test_a_damaged_list_is_refused(write_list: WriteList, content: str, message: str) -> None:
    path = write_list("a.json", [])
    path.write_text(content)
    with pytest.raises(PreflightError, match=message):
        list(open_lists(path).texts())


def open_captions(*paths: Path, **layout: Any) -> DatasetSource:
    return DatasetSource(tuple(map(str, paths)), TurnsLayout(**layout), "captions")


def list_records(source: DatasetSource) -> list[Record]:
    return [record for _, records in source.texts() for record in records]


def check_images(source: DatasetSource, expected: list[bytes | None]) -> None:
    """Rows are read with the images that lie there, in any order."""
    images: list[bytes | None] = []
    for address, records in source.texts():
        numbers = list(reversed(range(len(records))))
        images += [record["image"] for record in reversed(source.read(address, numbers))]
    assert images == expected


def test_captioned_tars_and_folders_are_read_as_they_lie(
    tmp_path: Path, encoded: EncodeImage
) -> None:
    files = [
        ("0.png", encoded((30, 30))),
        ("0.txt", b"a dog"),
        ("1.png", encoded((31, 30))),
        ("2.txt", b"no image"),
    ]
    (tmp_path / "tars").mkdir()
    write_shard(tmp_path / "tars" / "a.tar", files)
    (tmp_path / "folder").mkdir()
    for name, content in files:
        (tmp_path / "folder" / name).write_bytes(content)
    for path, num_rows in (("tars", 3), ("folder", 2)):
        source = pickle.loads(pickle.dumps(open_captions(tmp_path / path)))
        records = list_records(source)
        assert [record["caption"] for record in records] == ["a dog", None, "no image"][:num_rows]
        assert [record["status"] for record in records] == ["ok", "ok", "failed"][:num_rows]
        assert all(record["image"] is None and record["turns"] == [] for record in records)
        (unit,) = read.index_shard(source.shards[0], Layout())
        as_generated = read.read_unit(unit, Layout())["image_id"].to_pylist()
        assert [record["image_id"] for record in records] == as_generated
        check_images(source, [files[0][1], files[2][1], None][:num_rows])
        with pytest.raises(PreflightError, match=r"of images holds no turns; this objective"):
            DatasetSource((str(tmp_path / path),), TurnsLayout(), "turns")


def test_parquet_has_captions_or_turns(tmp_path: Path, encoded: EncodeImage) -> None:
    image = encoded()
    captions = {"image": [image, image, None], "caption": ["a dog", None, "gone"]}
    pq.write_table(pa.table(captions), tmp_path / "captions.parquet")
    source = open_captions(tmp_path / "captions.parquet")
    assert [record["caption"] for record in list_records(source)] == ["a dog", None, "gone"]
    check_images(source, [image, image, None])
    with pytest.raises(PreflightError, match=r"no turns; name their column"):
        DatasetSource((str(tmp_path / "captions.parquet"),), TurnsLayout(), "turns")
    with pytest.raises(PreflightError, match=r"--layout.turns said: the file has no such column"):
        open_captions(tmp_path / "captions.parquet", turns="said")
    turns = {"image": [image] * 2, "text": ["a dog", "a cat"], "conversations": [TWO_TURNS, []]}
    pq.write_table(pa.table(turns), tmp_path / "turns.parquet")
    for content in ("turns", "captions"):
        source = DatasetSource((str(tmp_path / "turns.parquet"),), TurnsLayout(), content)
        first, second = list_records(source)
        assert [turn["answer"] for turn in first["turns"]] == ["A", "B"]
        # An image without a turn is nothing to converse about, and its caption is one.
        assert second["status"] == ("failed" if content == "turns" else "ok")
        assert [first["caption"], second["caption"]] == ["a dog", "a cat"]


def test_what_follows_a_damage_is_left_out_and_said(
    tmp_path: Path, encoded: EncodeImage, caplog: pytest.LogCaptureFixture
) -> None:
    write_shard(tmp_path / "a.tar", [(f"{i}.png", encoded((90 + i, 99))) for i in range(4)])
    content = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(content[:3000])
    records = list_records(open_captions(tmp_path / "a.tar"))
    assert [record["status"] for record in records].count("ok") in (1, 2, 3)
    assert (records[-1]["error"] or "").startswith("damaged_shard")
    assert "a.tar is damaged; what follows is left out: byte" in caplog.text


def test_other_files_are_known_by_their_size(tmp_path: Path, encoded: EncodeImage) -> None:
    write_shard(tmp_path / "a.tar", [("0.png", encoded())])
    digests = open_captions(tmp_path / "a.tar").digests()
    assert open_captions(tmp_path / "a.tar").digests() == digests
    write_shard(tmp_path / "a.tar", [("0.png", encoded()), ("0.txt", b"a dog" * 3000)])
    assert open_captions(tmp_path / "a.tar").digests() != digests


def test_a_picture_that_goes_by_several_ids_is_learnt_or_held_out_as_one(
    tmp_path: Path, encoded: EncodeImage
) -> None:
    """As in Parquet with a question a row."""
    images = [{"bytes": encoded((30 + number, 30)), "path": None} for number in range(30)]
    rows: list[dict[str, Any]] = [
        {"id": f"{number}-{question}", "image": image, "question": "Q?", "answer": str(question)}
        for question in range(4)
        for number, image in enumerate(images)
    ]
    rows.append({**rows[0], "id": "gone", "image": None})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=50)
    source = DatasetSource((str(tmp_path),), TurnsLayout(), "turns")
    records = [record for _, of_file in source.texts() for record in of_file]
    assert len({record["image_id"] for record in records}) == 121
    assert len({scan.name_picture(record) for record in records}) == 31
    assert scan.name_picture(records[120]) == records[120]["image_id"]
    files, held_out = scan.find_usable_rows(
        source.texts(), lambda record: True, held_out_share=0.3, max_held_out=999
    )
    learnt, unseen = (
        {
            record["image"]
            for file in part
            for record in source.read(file.address, file.rows)
            if record["image"] is not None
        }
        for part in (files, held_out)
    )
    assert not learnt & unseen and len(learnt | unseen) == 30 and len(unseen) > 2
