"""A selection takes the folder of an earlier one, and of nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.dataset.select import select_turns
from c3l_ray.dataset.write import DatasetWriter
from c3l_ray.errors import PreflightError
from c3l_ray.select_config import SelectConfig
from tests.dataset.runs import ALL_TURNS, WriteRun, make_turn, move_parts_up, read_rows


def test_a_selection_replaces_a_selection_and_nothing_else(
    write_run: WriteRun, tmp_path: Path
) -> None:
    path = write_run([[make_turn(0.1)], [make_turn(0.2)]])
    runs: list[tuple[Any, int]] = [("images", ALL_TURNS), ("images", 1), ("none", 1)]
    for llava, top in runs:
        select_turns(SelectConfig(input=str(path), top=top, llava=llava))
        assert len(read_rows(path / "dataset")) == min(top, 2)
        images = path / "dataset" / "images"
        assert images.exists() == (llava == "images")
        assert not images.exists() or len(list(images.iterdir())) == min(top, 2)
    assert {file.name for file in (path / "dataset").iterdir()} == {
        *("README.md", "data", "selection.json")
    }
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    with pytest.raises(PreflightError, match="something other than an earlier selection"):
        select_turns(SelectConfig(input=str(path), output=str(tmp_path / "thesis")))
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "precious"
    own = path / "dataset" / "data" / "own.csv"
    own.write_text("precious")
    with pytest.raises(PreflightError, match="something other than an earlier selection"):
        select_turns(SelectConfig(input=str(path)))
    assert own.read_text() == "precious" and len(read_rows(path / "dataset")) == 1


def test_a_selection_replaces_one_of_an_older_version(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.1)], [make_turn(0.2)]])
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    move_parts_up(path / "dataset")
    select_turns(SelectConfig(input=str(path), top=1))
    assert len(read_rows(path / "dataset")) == 1
    assert not list((path / "dataset").glob("*.parquet"))


def test_a_selection_that_was_cut_short_is_made_again(
    write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run([[make_turn(0.1)], [make_turn(0.2)]])
    monkeypatch.setattr(DatasetWriter, "close", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    assert json.loads((path / "dataset" / "selection.json").read_text())["finished"] is None
    monkeypatch.undo()
    assert select_turns(SelectConfig(input=str(path), top=ALL_TURNS)).finished is not None
    assert len(read_rows(path / "dataset")) == 2


def test_a_refusal_leaves_the_earlier_selection(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.1)]])
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    for file in (path / "manifests").iterdir():
        file.unlink()
    with pytest.raises(PreflightError):
        select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    assert len(read_rows(path / "dataset")) == 1
