"""When a dataset would come out the same again."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.dataset.finished import find_finished_selection
from c3l_ray.dataset.select import select_turns
from c3l_ray.select_config import SelectConfig
from tests.dataset.runs import WriteRun, make_turn

CHANGES: dict[str, Any] = {
    "top": 2,
    "at_least": 0.1,
    "by": "gain",
    "within": "kind",
    "per": "image",
    "require_gain": False,
    "seed": 1,
    "mix": ("dialogue=1",),
    "exclude_benchmark": ("elsewhere",),
    "drop_near_duplicates": True,
    "group": "image",
    "export": "preference",
    "llava": "json",
    "license": "mit",
}


def test_every_setting_makes_another_dataset(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run([[make_turn(0.5), make_turn(0.7)]])
    config = SelectConfig(input=str(run), output=str(tmp_path / "dataset"), top=1)
    assert find_finished_selection(config) is None
    report = select_turns(config)
    found = find_finished_selection(config)
    assert found is not None and found["turns"] == report.turns == 1
    names = {field.name for field in dataclasses.fields(SelectConfig)} - {"input", "output"}
    assert CHANGES.keys() == names
    for name, value in CHANGES.items():
        assert find_finished_selection(dataclasses.replace(config, **{name: value})) is None, name


@pytest.mark.parametrize("what", ["part", "report"])
def test_a_dataset_that_is_not_whole_is_made_again(
    what: str, write_run: WriteRun, tmp_path: Path
) -> None:
    run = write_run([[make_turn(0.5)]])
    config = SelectConfig(input=str(run), output=str(tmp_path / "dataset"), top=1)
    select_turns(config)
    if what == "part":
        next((tmp_path / "dataset").rglob("*.parquet")).unlink()
    else:
        report = tmp_path / "dataset" / "selection.json"
        report.write_text(report.read_text().replace('"finished": "', '"finished_at": "'))
    assert find_finished_selection(config) is None
