import json
from pathlib import Path

import pytest
from PIL import Image

from c3l_ray.dataset import llava_export
from c3l_ray.dataset.select import select_turns
from c3l_ray.select_config import SelectConfig
from tests.dataset.runs import ALL_TURNS, WriteRun, make_turn


def test_llava_json_names_images_that_are_there(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.1), make_turn(0.9)], [make_turn(0.2)], [make_turn(0.3)]])
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS, llava="images"))
    samples = json.loads((path / "dataset" / "llava.json").read_text())
    assert len(samples) == len({sample["id"] for sample in samples}) == 4
    for sample in samples:
        with Image.open(path / "dataset" / sample["image"]) as image:
            assert image.size == (40, 30)
        human, model = sample["conversations"]
        assert human["from"] == "human" and human["value"].startswith("<image>\nq 0.")
        assert model == {"from": "gpt", "value": "The circle is red."}
    assert {Path(sample["image"]).suffix for sample in samples} == {".jpg", ".png", ".webp"}


@pytest.mark.parametrize(
    ("meta", "name"),
    [
        (None, "a.tar/0"),
        ("not JSON", "a.tar/0"),
        ('["image"]', "a.tar/0"),
        ('{"image": null}', "a.tar/0"),
        ('{"id": 1, "image": "coco/train2017/1.jpg"}', "coco/train2017/1.jpg"),
        ('{"id": 1, "images": ["1.jpg"]}', "1.jpg"),
    ],
)
def test_records_without_images_name_them_as_they_were_named(
    write_run: WriteRun, meta: str | None, name: str
) -> None:
    path = write_run([[make_turn(0.1)]], keep_images=False, meta=meta)
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS, llava="images"))
    (sample,) = json.loads((path / "dataset" / "llava.json").read_text())
    assert sample["image"] == name


def test_the_chosen_turns_of_an_image_can_be_one_sample(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.3), make_turn(0.1), make_turn(0.9)], [make_turn(0.2)]])
    select_turns(SelectConfig(input=str(path), top=0.75, group="image", llava="images"))
    samples = json.loads((path / "dataset" / "llava.json").read_text())
    questions = [
        [message["value"] for message in sample["conversations"][::2]] for sample in samples
    ]
    assert questions == [["<image>\nq 0.3", "q 0.9"], ["<image>\nq 0.2"]]
    assert len({sample["id"] for sample in samples}) == 2


def test_many_images_lie_in_folders_of_a_thousand(
    write_run: WriteRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llava_export, "FOLDER_IMAGES", 2)
    path = write_run([[make_turn(0.1), make_turn(0.9)], [make_turn(0.2)], [make_turn(0.3)]])
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS, llava="images"))
    samples = json.loads((path / "dataset" / "llava.json").read_text())
    folders = [str(Path(sample["image"]).parent) for sample in samples]
    assert folders == ["images/00000", "images/00000", "images/00000", "images/00001"]
    assert all((path / "dataset" / sample["image"]).is_file() for sample in samples)
    select_turns(SelectConfig(input=str(path), top=1, llava="images"))  # the folders are removed
    assert [file.is_file() for file in (path / "dataset" / "images").iterdir()] == [True]


def test_without_files_of_images_the_input_names_them(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.1)]], meta='{"image": "coco/1.jpg"}')
    select_turns(SelectConfig(input=str(path), top=ALL_TURNS, llava="json"))
    (sample,) = json.loads((path / "dataset" / "llava.json").read_text())
    assert sample["image"] == "coco/1.jpg" and not (path / "dataset" / "images").exists()


def test_llama_factory_is_told_how_to_read_the_samples(write_run: WriteRun) -> None:
    path = write_run([[make_turn(0.1)]])
    select_turns(SelectConfig(input=str(path), llava="images"))
    (info,) = json.loads((path / "dataset" / "dataset_info.json").read_text()).values()
    (sample,) = json.loads((path / "dataset" / info["file_name"]).read_text())
    assert info["formatting"] == "sharegpt"
    assert {*info["columns"].values()} == {"conversations", "image"} <= {*sample}
