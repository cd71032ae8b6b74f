"""The dataset's folder loads as it is, with its turns."""

import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from c3l_ray.config import SelectConfig
from c3l_ray.dataset import select
from c3l_ray.dataset.select import select_turns
from tests.dataset.runs import ALL_TURNS, WriteRun, make_turn


def read_front_matter(dataset: Path) -> Any:
    _, front_matter, _ = (dataset / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front_matter)


def test_the_card_names_the_parquet_files_and_no_other(
    write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run(*[[[make_turn(0.5)], [make_turn(0.4)]] for _ in range(3)])
    monkeypatch.setattr(select, "FILE_ROWS", 2)
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    (config,) = read_front_matter(path / "dataset")["configs"]
    (split,) = config["data_files"]
    assert (config["config_name"], split["split"]) == ("default", "train")
    files = [str(file.relative_to(path / "dataset")) for file in (path / "dataset").rglob("*.*")]
    named = sorted(fnmatch.filter(files, split["path"]))
    assert named == [f"part-{number:05d}.parquet" for number in range(3)]


def test_the_datasets_library_loads_the_folder_with_its_turns(
    write_run: WriteRun, tmp_path: Path
) -> None:
    from datasets import Image, load_dataset

    path = write_run([[make_turn(0.3), make_turn(0.1)], [make_turn(0.2)]])
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    dataset = load_dataset(str(path / "dataset"), cache_dir=str(tmp_path / "cache"))
    assert list(dataset) == ["train"]
    rows = dataset["train"].cast_column("image", Image())
    questions = [[turn["question"] for turn in row["turns"]] for row in rows]
    assert questions == [["q 0.3", "q 0.1"], ["q 0.2"]]
    assert [row["image"].size for row in rows] == [(40, 30)] * 2


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"top": 2.0}, "`--by i2c --within dataset --per dataset --top 2`"),
        ({"at_least": 0.15}, "`--by i2c --within dataset --per dataset --at-least 0.15`"),
    ],
)
def test_the_card_says_how_the_turns_were_chosen(
    write_run: WriteRun, flags: dict[str, Any], text: str
) -> None:
    path = write_run([[make_turn(0.3), make_turn(0.1)], [make_turn(0.2)]])
    select_turns(SelectConfig(input=str(path), **flags))
    card = (path / "dataset" / "README.md").read_text()
    assert "# 2 question-answer turns about 2 images\n" in card and text in card
    assert "of 3 scored ones" in card
