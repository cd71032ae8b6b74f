"""The dataset's folder loads as it is, with its turns."""

import fnmatch
import importlib
import json
from pathlib import Path
from typing import Any

import pyarrow.dataset as arrow_dataset
import pytest
import yaml

from c3l_ray.dataset import parquet_export
from c3l_ray.dataset.select import select_turns
from c3l_ray.errors import PreflightError
from c3l_ray.select_config import SelectConfig
from c3l_ray.workflows.summaries import summarize_selection
from tests.dataset.runs import ALL_TURNS, WriteRun, make_turn
from tests.examples import RECORD


def read_front_matter(dataset: Path) -> Any:
    _, front_matter, _ = (dataset / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front_matter)


def test_the_card_names_the_parquet_files_and_no_other(
    write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run(*[[[make_turn(0.5)], [make_turn(0.4)]] for _ in range(3)])
    monkeypatch.setattr(parquet_export, "FILE_ROWS", 2)
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    (config,) = read_front_matter(path / "dataset")["configs"]
    (split,) = config["data_files"]
    assert (config["config_name"], split["split"]) == ("default", "train")
    files = [str(file.relative_to(path / "dataset")) for file in (path / "dataset").rglob("*.*")]
    named = sorted(fnmatch.filter(files, split["path"]))
    assert named == [f"data/part-{number:05d}.parquet" for number in range(3)]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("group", ["turn", "image"])
def test_the_datasets_library_loads_the_folder_with_its_turns(
    write_run: WriteRun, tmp_path: Path, group: Any, streaming: bool
) -> None:
    from datasets import Image, List, Value, load_dataset

    path = write_run([[make_turn(0.3), make_turn(0.1)], [make_turn(0.2)]])
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS, group=group, llava="images"))
    dataset = load_dataset(
        str(path / "dataset"), cache_dir=str(tmp_path / "cache"), streaming=streaming
    )
    assert list(dataset) == ["train"]
    features = dataset["train"].features
    assert features["images"] == List(Image())
    assert features["messages"] == List({"role": Value("string"), "content": Value("string")})
    score = Value("float32")
    assert features["i2c"] == (List(score) if group == "image" else score)
    rows = list(dataset["train"])
    assert [image.size for row in rows for image in row["images"]] == [(40, 30)] * len(rows)
    questions = [message["content"] for row in rows for message in row["messages"][::2]]
    assert questions == ["q 0.3", "q 0.1", "q 0.2"]
    if group == "turn":
        assert [round(row["i2c"], 6) for row in rows] == [0.3, 0.1, 0.2]
        assert [row["turn_id"] for row in rows] == ["u-00000-0-0", "u-00000-0-1", "u-00000-1-0"]
    else:
        assert [row["kind"] for row in rows] == [["dialogue"] * 2, ["dialogue"]]


def test_pandas_and_arrow_read_the_folder_of_the_files(
    write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run([[make_turn(0.3), make_turn(0.1)], [make_turn(0.2)]])
    monkeypatch.setattr(parquet_export, "FILE_ROWS", 2)
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS, llava="images"))
    card = (path / "dataset" / "README.md").read_text()
    assert 'pandas.read_parquet("path/of/this/folder/data")' in card
    assert "FROM 'path/of/this/folder/data/*.parquet'" in card
    frame = importlib.import_module("pandas").read_parquet(path / "dataset" / "data")
    scanned = arrow_dataset.dataset(str(path / "dataset" / "data"), format="parquet")
    assert len(scanned.files) == 2 and scanned.count_rows() == len(frame) == 3
    assert frame.groupby("kind")["i2c"].mean().round(6).to_dict() == {"dialogue": 0.2}
    assert frame["images"][0][0]["bytes"][:2] == b"\xff\xd8"


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


def test_the_card_says_how_the_turns_were_made(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.3), make_turn(0.1)], [make_turn(0.2)]])
    report = json.loads((path / "run.json").read_text())
    report["config"] = {"model": {"name": "/home/me/models/llava"}, "clip": {"name": "a|b"}}
    report["identity"] |= {"model": "0123", "scorer": "4567", "clip": "89ab"}
    report |= {"status": {"ok": 2, "failed": 1}, "reasons": {"undecodable": 1}}
    (path / "run.json").write_text(json.dumps(report))
    config = SelectConfig(
        input=str(path), top=ALL_TURNS, license="cc-by-4.0", mix=("dialogue=1",), llava="json"
    )
    written = select_turns(config)
    front_matter = read_front_matter(path / "dataset")
    assert (front_matter["license"], front_matter["size_categories"]) == ("cc-by-4.0", ["n<1K"])
    card = (path / "dataset" / "README.md").read_text()
    instruction = RECORD["turns"][0]["instruction"]
    for line in (
        "| model | llava, weights 0123 |",
        "| scorer | llava, weights 4567 |",
        "| clip | a\\|b, weights 89ab |",
        "| images of the run | ok 2, failed 1 |",
        "| failed images by reason | undecodable 1 |",
        "| turns here, by kind | dialogue 3 |",
        f"- {instruction} (3)",
        "| dataset_info.json | by which LLaMA-Factory reads llava.json; `media_dir` is the images' "
        "folder |",
    ):
        assert f"\n{line}\n" in f"{card}\n"
    assert "--mix dialogue=1`" in card and "/home/me" not in card
    expected = {"p5": 0.11, "p25": 0.15, "p50": 0.2, "p75": 0.25, "p95": 0.29}
    assert written.score_percentiles["i2c"] == pytest.approx(expected)
    assert "| i2c | 0.11 | 0.15 | 0.2 | 0.25 | 0.29 | " in card


def test_the_card_says_that_images_lack_and_how_rows_are_loaded_then(
    write_run: WriteRun, tmp_path: Path
) -> None:
    from datasets import Image, List, load_dataset

    path = write_run([[make_turn(0.3), make_turn(0.1)], [make_turn(0.2)]], keep_images=False)
    report = select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    assert report.rows_without_image == 3
    card = (path / "dataset" / "README.md").read_text()
    assert "| a row for a turn, with a path in place of its image |" in card
    assert "3 of 3 rows have no bytes of their image" in card
    assert "| rows without the bytes of their image | 3 |" in card
    assert "3 of 3 rows name their image by a path" in summarize_selection(report)
    dataset = load_dataset(str(path / "dataset"), split="train", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(FileNotFoundError):
        print(dataset[0])
    assert 'cast_column("images", List(Image(decode=False)))' in card
    dataset = dataset.cast_column("images", List(Image(decode=False)))
    assert next(iter(dataset))["images"] == [{"bytes": None, "path": "a.tar/0"}]


def test_the_card_of_a_dataset_with_its_images_speaks_of_no_other(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.3)]])
    report = select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    card = (path / "dataset" / "README.md").read_text()
    assert report.rows_without_image == 0 and "cast_column" not in card
    assert "| a row for a turn, with its image |" in card
    assert "rows name their image by a path" not in summarize_selection(report)


def test_without_a_license_the_card_names_none(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.3)]])
    select_turns(SelectConfig(input=str(path)))
    assert "license" not in read_front_matter(path / "dataset")
    for wrong in ("CC BY 4.0", "", "mit: x"):
        with pytest.raises(PreflightError, match=r"--license .*: must be an identifier of the Hub"):
            SelectConfig(input=str(path), license=wrong)
