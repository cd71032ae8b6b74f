"""From a run to the rows and turns that are learnt."""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray.dataset.select import select_turns
from c3l_ray.errors import PreflightError
from c3l_ray.methods.cgvlm import CAPTION_INSTRUCTION
from c3l_ray.methods.labels import LabelRules
from c3l_ray.scenes.world import write_shard
from c3l_ray.schema import Record
from c3l_ray.select_config import SelectConfig
from c3l_ray.train.objectives import ObjectiveName
from c3l_ray.train.reading.chat_text import Example
from c3l_ray.train.reading.examples import make_example
from c3l_ray.train.reading.order import FileRows, count_images
from c3l_ray.train.reading.scan import name_picture
from c3l_ray.train.reading.sources import open_source
from c3l_ray.train.reading.training_data import (
    TrainingData,
    choose_prompt,
    load_training_data,
    summarize_mixture,
)
from c3l_ray.train.training_config import ConversationLayout, Optimization, Progress
from tests.dataset.runs import ALL_TURNS
from tests.examples import EncodeImage
from tests.inputs.messages import llava_messages
from tests.train.records import MakeTrainConfig, make_record, write_run

HALF_HELD_OUT = Progress(held_out=0.5)


def test_whole_records_are_learnt_or_held_out(train_config: MakeTrainConfig) -> None:
    config = train_config(progress=HALF_HELD_OUT)
    write_run(*config.input, num_scenes=20)
    data = load_training_data(open_source(config), config)
    assert count_images(data.files) + count_images(data.held_out) == 20
    assert count_images(data.held_out) > 0
    assert data.sets == () and data.quantiles == {} and summarize_mixture(data, config) == {}
    within_kind = train_config(labels=LabelRules(within="kind"))
    quantiles = load_training_data(open_source(within_kind), within_kind).quantiles
    assert set(quantiles) == {"dialogue", "detail", "reasoning", "short", "yes_no"}


def test_single_turns_are_learnt_in_their_sets(train_config: MakeTrainConfig) -> None:
    config = train_config(objective="vigc", progress=HALF_HELD_OUT)
    write_run(*config.input, num_scenes=20, scenes_per_file=3)
    data = load_training_data(open_source(config), config)
    assert count_images(data.files) + count_images(data.held_out) == 20
    summary = summarize_mixture(data, config)
    assert list(summary) == ["detail", "dialogue", "reasoning", "short", "yes_no"]
    for turn_set in data.sets:
        for number, row, place in turn_set.turns.tolist():
            file = data.files[number]
            assert row in file.rows
            (record,) = data.read(file.address, [row])
            assert record["turns"][place]["kind"] == turn_set.name
    assert sum(line["turns"] for line in summary.values()) == 5 * count_images(data.files)
    assert sum(line["share"] for line in summary.values()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("objective", ["c3l", "vigc", "cgvlm"])
def test_turns_that_follow_others_are_counted_and_not_learnt(
    train_config: MakeTrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    objective: ObjectiveName,
) -> None:
    def make_conversation(seed: int) -> Record:
        """Two turns that stand alone, two that follow them, and one that follows and is not ok."""
        record = make_record(seed)
        for turn in record["turns"][2:]:
            turn["kind"] = "follow_up"
        record["turns"][4]["status"] = "empty"
        return record

    monkeypatch.setattr("tests.train.records.make_record", make_conversation)
    config = train_config(objective=objective)
    write_run(*config.input, num_scenes=20)
    with caplog.at_level(logging.WARNING, logger="c3l_ray"):
        data = load_training_data(open_source(config), config)
    # cgvlm learns an image's caption, and of turns none.
    num_left_out = 0 if objective == "cgvlm" else 2 * 20
    assert data.num_follow_ups == num_left_out
    said = [message for message in caplog.messages if "follow others" in message]
    assert [message.split()[0] for message in said] == ["40"][: bool(num_left_out)]
    if objective == "vigc":
        assert "follow_up" not in summarize_mixture(data, config)


def test_fewer_images_than_a_batch_are_refused(train_config: MakeTrainConfig) -> None:
    config = train_config(optim=Optimization(batch_size=4), progress=Progress(held_out=0.0))
    write_run(*config.input, num_scenes=3)
    with pytest.raises(PreflightError, match="3 images to learn from, fewer than"):
        load_training_data(open_source(config), config)


def write_captions(folder: Path, encoded: EncodeImage) -> dict[str, Path]:
    """Twelve captioned images as LLaVA's list, as tars, as Parquet and as a folder.

    The first has no caption. In the list it is one of a sample of two turns.
    """
    images = {f"{number:03d}": encoded((30 + number, 30)) for number in range(12)}
    paths = {name: folder / name for name in ("558k.json", "tars", "captions.parquet", "folder")}
    samples = []
    files: list[tuple[str, bytes]] = []
    for name, image in images.items():
        messages = [("human", "What is seen?\n<image>"), ("gpt", f"caption {name}")]
        if name == "000":
            messages *= 2
        conversation = llava_messages(*messages)
        samples.append({"id": name, "image": f"{name}.png", "conversations": conversation})
        files.append((f"{name}.png", image))
        if name != "000":
            files.append((f"{name}.txt", f"caption {name}".encode()))
    paths["folder"].mkdir()
    for file, content in files:
        (paths["folder"] / file).write_bytes(content)
    paths["558k.json"].write_text(json.dumps(samples))
    paths["tars"].mkdir()
    write_shard(paths["tars"] / "0.tar", files)
    captions = [None, *(f"caption {name}" for name in list(images)[1:])]
    columns = {"jpg": list(images.values()), "said": captions}
    pq.write_table(pa.table(columns), paths["captions.parquet"])
    return paths


@pytest.mark.parametrize("name", ["558k.json", "tars", "captions.parquet", "folder"])
def test_captions_are_learnt_as_they_lie(
    train_config: MakeTrainConfig, tmp_path: Path, encoded: EncodeImage, processor: Any, name: str
) -> None:
    layout: dict[str, Any] = {}
    if name == "558k.json":
        layout = {"image_root": str(tmp_path / "folder")}
    if name == "captions.parquet":
        layout = {"caption": "said"}
    config = train_config(
        objective="cgvlm",
        input=(str(write_captions(tmp_path, encoded)[name]),),
        layout=ConversationLayout(**layout),
        progress=Progress(held_out=0.2),
    )
    data = load_training_data(open_source(config), config)
    assert count_images(data.files) + count_images(data.held_out) == 11
    assert (count_images(data.held_out) > 0, data.num_left_out) == (True, 1)
    for files in (data.files, data.held_out):
        for file in files:
            for record in data.read(file.address, file.rows):
                example = make_example(record, processor, config, {})
                assert isinstance(example, Example)
                (text,) = example.texts
                number = example.image.size[0] - 30
                reply = text.text[slice(*text.reply)]
                assert reply == f"caption {number:03d}"
                asked = "What is seen?" if name == "558k.json" else CAPTION_INSTRUCTION
                assert asked in text.text


def test_conversations_are_learnt_whole(
    train_config: MakeTrainConfig, tmp_path: Path, processor: Any
) -> None:
    """From what jobs.select exports: LLaVA's list, and the folder with Parquet."""
    write_run(tmp_path / "run", num_scenes=8)
    select = SelectConfig(
        input=str(tmp_path / "run"),
        output=str(tmp_path / "best"),
        top=ALL_TURNS,
        require_gain=False,
        group="image",
        llava="images",
    )
    select_turns(select)
    texts = {}
    for name in ("run", "best", "best/llava.json"):
        config = train_config(
            objective="conversations",
            input=(str(tmp_path / name),),
            progress=Progress(held_out=0.0),
        )
        data = load_training_data(open_source(config), config)
        assert (count_images(data.files), data.num_left_out) == (8, 0)
        examples = [
            make_example(record, processor, config, {})
            for file in data.files
            for record in data.read(file.address, file.rows)
        ]
        assert all(isinstance(example, Example) for example in examples)
        texts[name] = {
            example.texts[0].text for example in examples if isinstance(example, Example)
        }
        assert all(
            len(example.texts[0].targets) == 5
            for example in examples
            if isinstance(example, Example)
        )
    assert texts["run"] == texts["best"] == texts["best/llava.json"] and len(texts["run"]) == 8


def test_nothing_to_learn_is_refused_with_what_was_left_out(
    train_config: MakeTrainConfig, tmp_path: Path, encoded: EncodeImage
) -> None:
    paths = write_captions(tmp_path, encoded)
    config = train_config(objective="cgvlm", input=(str(paths["captions.parquet"]),))
    message = "0 images to learn from.*an image needs a caption.*and 12 images have none"
    with pytest.raises(PreflightError, match=message):
        load_training_data(open_source(config), config)


def test_the_tuned_model_is_asked_about_an_image_that_can_be_decoded(
    encoded: EncodeImage,
) -> None:
    generated, captioned, given = (make_record(number) for number in range(3))
    captioned["turns"] = []
    given["turns"] = [
        {**given["turns"][0], "kind": "given", "instruction": "Be polite.", "question": "Why?"}
    ]
    damaged = {**make_record(3), "image": b"damaged"}

    def ask(*records: Any) -> str | None:
        file = FileRows(address="a", rows=tuple(range(len(records))))
        data = TrainingData(
            files=(file,),
            held_out=(),
            quantiles={},
            read=lambda address, rows: [records[row] for row in rows],
        )
        prompt = choose_prompt(data, 10**6)
        return None if prompt is None else prompt[1]

    assert ask(generated) == generated["turns"][0]["instruction"]
    assert ask(damaged, captioned) == CAPTION_INSTRUCTION
    assert ask(given) == "Why?"
    foreign = {**given, "turns": [{**given["turns"][0], "kind": "vqa"}]}
    assert ask(foreign) == "Why?"
    assert ask(damaged) is None


NUM_PICTURES = 40


def make_samples(list_name: str) -> list[dict[str, Any]]:
    """LLaVA samples of a list, one about each picture, with ids of the list's own."""
    return [
        {
            "id": f"{list_name} {number}",
            "image": f"{number:012d}.jpg",
            "conversations": llava_messages(("human", "<image>\nWhat is it?"), ("gpt", list_name)),
        }
        for number in range(NUM_PICTURES)
    ]


def split_pictures(data: TrainingData) -> tuple[set[str | None], set[str | None]]:
    """The images of the samples that are learnt, and of those that are held out."""
    learnt, held_out = (
        {
            json.loads(record["meta"] or "")["image"]
            for file in files
            for record in data.read(file.address, file.rows)
        }
        for files in (data.files, data.held_out)
    )
    return learnt, held_out


def test_a_picture_of_two_lists_is_held_out_in_both(
    train_config: MakeTrainConfig, tmp_path: Path
) -> None:
    (tmp_path / "coco").mkdir()
    for number in range(NUM_PICTURES):
        (tmp_path / "coco" / f"{number:012d}.jpg").write_bytes(b"an image")
    names = ("conversation_58k.json", "detail_23k.json")
    for name in names:
        (tmp_path / name).write_text(json.dumps(make_samples(name)))
    config = train_config(
        objective="vigc",
        input=tuple(str(tmp_path / name) for name in names),
        layout=ConversationLayout(image_root=str(tmp_path / "coco")),
        progress=Progress(held_out=0.3),
    )
    data = load_training_data(open_source(config), config)
    learnt, held_out = split_pictures(data)
    assert 5 < len(held_out) < 20 and len(learnt) + len(held_out) == NUM_PICTURES
    assert not learnt & held_out
    assert count_images(data.held_out) == 2 * len(held_out)
    sizes = [len(turn_set.turns) for turn_set in data.sets]
    assert sizes == [len(learnt)] * 2


@pytest.mark.parametrize("objective", ["c3l", "cgvlm", "vigc"])
def test_records_of_one_picture_are_learnt_or_held_out_together(
    train_config: MakeTrainConfig, objective: str
) -> None:
    """Of a run over two lists, whose samples travel in `meta`."""
    config = train_config(objective=objective, progress=Progress(held_out=0.4))
    samples = [sample for name in ("a.json", "b.json") for sample in make_samples(name)[:12]]
    write_run(*config.input, num_scenes=24, metas=[json.dumps(sample) for sample in samples])
    data = load_training_data(open_source(config), config)
    learnt, held_out = split_pictures(data)
    assert held_out and len(learnt) + len(held_out) == 12 and not learnt & held_out


@pytest.mark.parametrize(
    ("meta", "name"),
    [
        (None, "scene-0001"),
        ('{"background": "red"}', "scene-0001"),
        ('{"image": ["1.jpg", "2.jpg"]}', "scene-0001"),
        ('{"image": "coco/1.jpg"}', "coco/1.jpg"),
        ('{"image": "./coco//1.jpg"}', "coco/1.jpg"),
        ('{"image": "\\ud800.jpg"}', "?.jpg"),  # half of a surrogate pair is no text
        ("[" * 100_000, "scene-0001"),
    ],
)
def test_a_picture_is_named_by_its_file_or_its_id(meta: str | None, name: str) -> None:
    assert name_picture({**make_record(1), "meta": meta}) == name
