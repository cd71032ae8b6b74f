"""The jobs that score and train read a dataset as they read the records that it was made of."""

import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.dataset.select import select_turns
from c3l_ray.errors import PreflightError
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.inputs.read import index_shard, read_unit
from c3l_ray.report.gather import find_outputs
from c3l_ray.report.selections import describe_selection
from c3l_ray.report.turn_table import read_turns
from c3l_ray.schema import FOLLOW_UP, GIVEN
from c3l_ray.select_config import SelectConfig
from tests.dataset.runs import ALL_TURNS, WriteRun, make_turn, move_parts_up

IDS = ["0" * 16, "1" * 16]
META = '{"id": 1, "image": "coco/1.jpg"}'


def read_dataset(path: Path | str, layout: Layout) -> list[dict[str, Any]]:
    rows = []
    for shard in find_shards((str(path),), layout):
        for unit in index_shard(shard, layout):
            rows += read_unit(unit, layout).to_pylist()
    return rows


def name_turns(row: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (turn["kind"], turn["instruction"], turn["question"], turn["answer"], turn["draft"])
        for turn in row["turns"]
    ]


@pytest.mark.parametrize("group", ["turn", "image"])
def test_turns_keep_what_training_and_scoring_look_at(write_run: WriteRun, group: Any) -> None:
    given = {**make_turn(0.5), "kind": GIVEN, "instruction": "Be brief.", "draft": None}
    follow_up = {**given, "kind": FOLLOW_UP, "question": "And then?"}
    turns = [[make_turn(0.3), {**make_turn(0.1), "kind": "yes_no"}], [given, follow_up]]
    path = write_run(turns, meta=META, image_ids=IDS)
    before = read_dataset(path, TurnsLayout())
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS, group=group, llava="images", seed=0))
    rows = read_dataset(path / "dataset", TurnsLayout())
    kept = ("image_id", "source", "key", "caption", "meta", "image")
    if group == "image":
        assert [name_turns(row) for row in rows] == [name_turns(row) for row in before]
        assert [[row[name] for name in kept] for row in rows] == [
            [row[name] for name in kept] for row in before
        ]
    else:
        of_turns = [(row, name) for row in before for name in name_turns(row)]
        assert [name_turns(row) for row in rows] == [[name] for _, name in of_turns]
        assert [[row[name] for name in kept] for row in rows] == [
            [row[name] for name in kept] for row, _ in of_turns
        ]
    assert all(turn["status"] == "ok" for row in rows for turn in row["turns"])
    assert all(row["error"] is None for row in rows)


@pytest.mark.parametrize("is_older", [False, True])
def test_a_dataset_is_read_wherever_its_files_lie(write_run: WriteRun, is_older: bool) -> None:
    path = write_run([[make_turn(0.3)], [make_turn(0.1)]])
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS, llava="images"))
    if is_older:
        move_parts_up(path / "dataset")
    (shard,) = find_shards((str(path / "dataset"),), TurnsLayout())
    assert shard.source == ("part-00000.parquet" if is_older else "data/part-00000.parquet")
    rows = read_dataset(path / "dataset", TurnsLayout())
    assert [row["turns"][0]["question"] for row in rows] == ["q 0.3", "q 0.1"]


def test_a_dataset_on_s3_is_replaced_and_read(s3: str, write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.3)], [make_turn(0.1)]])
    for top in (2, 1):
        select_turns(SelectConfig(input=str(path), output=f"{s3}/best", top=top, llava="images"))
        rows = read_dataset(f"{s3}/best", TurnsLayout())
        assert [row["turns"][0]["question"] for row in rows] == ["q 0.3", "q 0.1"][:top]
    found = find_outputs([str(path), f"{s3}/best"])
    (kept,) = [describe_selection(one, read_turns(found.runs[0])) for one in found.datasets]
    assert kept.table.rows[0][:3] == ["dialogue", "100.0 %", "1"]


def test_the_labels_of_a_benchmark_are_not_read_as_turns(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.3)]])
    run = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**run, "job": "benchmark"}))
    for layout in (TurnsLayout(), Layout()):  # jobs.score and jobs.answer; jobs.generate
        with pytest.raises(PreflightError, match=r"^--input .* output of jobs\.evaluate benchmark"):
            find_shards((str(path),), layout)


def test_images_and_captions_are_read_without_turns(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.3)], [make_turn(0.1)]])
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    rows = read_dataset(path / "dataset", Layout())
    assert [row["key"] for row in rows] == ["0", "1"] and all(row["image"] for row in rows)


def test_a_pair_is_read_as_its_better_answer(write_run: WriteRun) -> None:
    scores = dict.fromkeys(make_turn(0.5)["scores"], 0.1)
    worse = {"answer": "worse", "num_samples": 1, "status": "ok", "scores": scores}
    path = write_run([[{**make_turn(0.5), "alternatives": [worse]}]], image_ids=IDS[:1])
    select_turns(SelectConfig(input=str(path), export="preference"))
    (row,) = read_dataset(path / "dataset", TurnsLayout())
    (turn,) = row["turns"]
    assert (turn["question"], turn["answer"]) == ("q 0.5", "The circle is red.")
    assert (turn["kind"], row["image_id"]) == ("dialogue", IDS[0])
