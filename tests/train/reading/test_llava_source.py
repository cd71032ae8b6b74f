"""A LLaVA dataset read as records are, without a run before it."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.config import TurnsLayout
from c3l_ray.train.reading import llava_source, scan
from c3l_ray.inputs import read
from c3l_ray.train.reading.llava_source import Conversations
from c3l_ray.errors import C3LError, PreflightError
from tests.inputs.test_read import Encoded
from tests.runs.test_statistics import llava as said

TWO = said(("human", "<image>\nQ"), ("gpt", "A"), ("human", "R"), ("gpt", "B"))
Write = Callable[[str, list[dict[str, Any]]], Path]


@pytest.fixture
def write(tmp_path: Path, encoded: Encoded) -> Write:
    """Writes a list of samples beside a folder of images 0.png to 9.png."""
    (tmp_path / "coco").mkdir()
    for number in range(10):
        (tmp_path / "coco" / f"{number}.png").write_bytes(encoded((30 + number, 30)))

    def write(name: str, samples: list[dict[str, Any]]) -> Path:
        (tmp_path / name).write_text(json.dumps(samples))
        return tmp_path / name

    return write


def samples(num: int) -> list[dict[str, Any]]:
    return [{"id": i % 7, "image": f"{i % 10}.png", "conversations": TWO} for i in range(num)]


def dataset(*paths: Path, **layout: Any) -> Conversations:
    root = str(paths[0].parent / "coco")
    return Conversations(tuple(map(str, paths)), TurnsLayout(image_root=root, **layout))


def test_rows_are_the_records_that_scoring_would_make(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shards, "UNIT_ROWS", 8)
    paths = write("a.json", samples(20)), write("b.json", samples(3))
    monkeypatch.chdir(tmp_path)
    found = Conversations(tuple(map(str, paths)), TurnsLayout(image_root="coco"))
    monkeypatch.chdir("/")
    found = pickle.loads(pickle.dumps(found))  # as reading tasks have it
    expected = [
        row
        for shard in found.shards
        for unit in read.index(shard, found.layout)
        for row in read.read(unit, found.layout).to_pylist()
    ]
    scanned = list(found.scanned())
    assert [len(rows) for _, rows in scanned] == [8, 8, 4, 3]
    rows = [row for _, rows in scanned for row in rows]
    for ours, theirs in zip(rows, expected, strict=True):
        assert ours["image"] is None and ours["status"] == "ok"
        assert (ours["image_id"], ours["source"]) == (theirs["image_id"], theirs["source"])
        for name in ("kind", "question", "answer", "status"):
            assert [turn[name] for turn in ours["turns"]] == [t[name] for t in theirs["turns"]]
    assert len({row["image_id"] for row in rows}) == 23  # ids come again, image_ids do not
    for (name, _), first in zip(scanned, (0, 8, 16, 20), strict=True):
        read = found.read(name, [2, 0])
        assert [row["image_id"] for row in read] == [
            expected[first + row]["image_id"] for row in (2, 0)
        ]
        assert [row["image"] for row in read] == [expected[first + row]["image"] for row in (2, 0)]


@pytest.mark.parametrize(("history", "of_image"), [("auto", {0: "a.json"}), ("no", {0: 1, 1: 1})])
def test_turns_are_learnt_or_held_out_with_their_image(
    write: Write, history: Any, of_image: dict[int, Any]
) -> None:
    unusable = [{"id": "none", "conversations": TWO}, {"id": "two", "image": ["0.png", "1.png"]}]
    found = dataset(write("a.json", [*samples(60), *unusable]), history=history)

    def sets(record: dict[str, Any]) -> dict[int, str]:
        if record["status"] != "ok":
            return {}
        return {i: record["source"] for i, t in enumerate(record["turns"]) if t["kind"] == "given"}

    turns, held_out = scan.turns(found.scanned(), sets, held_out=0.3, max_held_out=100)
    assert list(turns) == ["a.json"]
    learnt = {row for _, row, _ in turns["a.json"]}
    apart = {row for _, rows in held_out for row in rows}
    assert learnt | apart == set(range(60)) and not learnt & apart and 5 < len(apart) < 40
    assert len(turns["a.json"]) == len(of_image) * len(learnt)
    assert {place for _, _, place in turns["a.json"]} == set(of_image)
    fewer, first = scan.turns(found.scanned(), sets, held_out=0.3, max_held_out=2)
    assert fewer == turns and sum(len(rows) for _, rows in first) == 2


def test_the_digest_is_of_the_content(write: Write) -> None:
    path = write("a.json", samples(3))
    before = dataset(path).digests()
    assert dataset(path).digests() == before
    path.write_text(path.read_text().replace('"A"', '"C"'))
    assert dataset(path).digests() != before


def test_an_image_that_is_gone_is_none_and_a_list_that_is_gone_an_error(write: Write) -> None:
    path = write("a.json", samples(3))
    found = dataset(path)
    ((name, _),) = found.scanned()
    (path.parent / "coco" / "1.png").unlink()
    assert [row["image"] is None for row in found.read(name, [0, 1, 2])] == [False, True, False]
    path.unlink()
    with pytest.raises(C3LError, match=r"a\.json or its images cannot be read"):
        found.read(name, [0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"id": 1, "image": "0.png"}', r"a\.json: damaged at byte 28: the list does not end"),
        ("{}", r"a\.json: damaged at byte 0: not a list of samples"),
    ],
)
def test_a_damaged_list_is_refused(write: Write, content: str, message: str) -> None:
    path = write("a.json", [])
    path.write_text(content)
    with pytest.raises(PreflightError, match=message):
        list(dataset(path).scanned())


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [(("a.json", "b/*.jsonl"), True), (("run",), False), (("run", "a.json"), False)],
)
def test_lists_are_told_by_their_names(inputs: tuple[str, ...], expected: bool) -> None:
    assert llava_source.are(inputs) == expected
