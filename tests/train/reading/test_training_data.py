"""From a run to the rows and turns that are learnt."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.methods.labels import LabelRules
from c3l_ray.schema import Record
from c3l_ray.train.objectives import ObjectiveName
from c3l_ray.train.reading.order import count_images
from c3l_ray.train.reading.scan import name_picture
from c3l_ray.train.reading.sources import open_source
from c3l_ray.train.reading.training_data import TrainingData, load_training_data, summarize_mixture
from c3l_ray.train.training_config import ConversationLayout, Optimization, Progress
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
