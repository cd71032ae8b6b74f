"""Ids, system messages and columns of samples."""

import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.dataset.select import select_turns
from c3l_ray.select_config import SelectConfig
from tests.dataset.runs import ALL_TURNS, WriteRun, make_turn, read_rows


@pytest.mark.parametrize(
    ("meta", "own_id"),
    [
        ('{"id": "000000033471", "image": "coco/1.jpg"}', "000000033471"),
        ('{"id": 7}', "7"),
        ('{"id": ""}', None),
        ('{"id": true}', None),
        ('{"id": ["a"]}', None),
        ("[1]", None),
        ("not JSON", None),
        ("[" * 100_000, None),
        (None, None),
    ],
)
@pytest.mark.parametrize("llava", ["json", "none"])
def test_a_sample_keeps_the_id_that_the_input_had(
    write_run: WriteRun, meta: str | None, own_id: str | None, llava: Any
) -> None:
    path = write_run([[make_turn(0.1)], [make_turn(0.9), make_turn(None)]], meta=meta)
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS, llava=llava))
    # The place of a turn follows where its image has several, chosen or not.
    expected = [own_id or "u-00000-0", f"{own_id or 'u-00000-1'}-0"]
    assert [row["id"] for row in read_rows(path / "dataset")] == expected
    if llava == "json":
        samples = json.loads((path / "dataset" / "llava.json").read_text())
        assert [sample["id"] for sample in samples] == expected
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS, group="image"))
    expected = [own_id or "u-00000-0", own_id or "u-00000-1"]
    assert [row["id"] for row in read_rows(path / "dataset")] == expected


def test_a_turn_made_elsewhere_keeps_its_system_message(write_run: WriteRun) -> None:
    def make(instruction: str, kind: str = "given") -> dict[str, Any]:
        return {**make_turn(0.5), "kind": kind, "instruction": instruction}

    path = write_run([[make("Be brief."), make("Be brief.", "follow_up"), make("Be kind.")]])
    question = {"role": "user", "content": "q 0.5"}
    answer = {"role": "assistant", "content": "The circle is red."}
    brief, kind = ({"role": "system", "content": text} for text in ("Be brief.", "Be kind."))
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    messages = [row["messages"] for row in read_rows(path / "dataset")]
    assert messages == [[system, question, answer] for system in (brief, brief, kind)]
    report = select_turns(SelectConfig(input=str(path), top=ALL_TURNS, group="image"))
    rows = read_rows(path / "dataset")
    # Another system message is another conversation.
    assert [row["messages"] for row in rows] == [
        [brief, *[question, answer] * 2],
        [kind, question, answer],
    ]
    assert [row["id"] for row in rows] == ["u-00000-0-0", "u-00000-0-2"]
    assert [row["kind"] for row in rows] == [["given", "follow_up"], ["given"]]
    assert (report.turns, report.samples, report.images) == (3, 2, 1)


def test_a_row_holds_what_belongs_to_its_turn(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.5), {**make_turn(0.25), "kind": "short", "draft": None}]])
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    first, second = read_rows(path / "dataset")
    for row, place, kind, score, draft in (
        (first, 0, "dialogue", 0.5, "The circle is round."),
        (second, 1, "short", 0.25, None),
    ):
        assert (row["turn_id"], row["kind"]) == (f"u-00000-0-{place}", kind)
        assert (row["i2c"], row["draft"]) == (score, draft)
        assert (row["image_id"], row["source"], row["key"]) == ("u-00000-0", "a.tar", "0")
        assert row["images"] == first["images"] and row["images"][0]["bytes"]
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS, group="image"))
    (row,) = read_rows(path / "dataset")
    assert (row["turn_id"], row["kind"]) == (["u-00000-0-0", "u-00000-0-1"], ["dialogue", "short"])
    assert (row["i2c"], row["draft"]) == ([0.5, 0.25], ["The circle is round.", None])


def test_images_that_were_not_kept_are_named(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.1)]], keep_images=False, meta='{"image": "coco/1.jpg"}')
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    (row,) = read_rows(path / "dataset")
    assert row["images"] == [{"bytes": None, "path": "coco/1.jpg"}]


@pytest.mark.parametrize("count", [0, 1])
def test_images_are_one_copy_where_no_other_is_asked_for(write_run: WriteRun, count: int) -> None:
    path: Path = write_run([[make_turn(0.1)]])
    llava: Any = ("none", "json")[count]
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS, llava=llava))
    names = {file.name for file in (path / "dataset").iterdir()}
    extra = {"llava.json", "dataset_info.json"} if llava == "json" else set()
    assert names == {"data", "README.md", "selection.json", *extra}
