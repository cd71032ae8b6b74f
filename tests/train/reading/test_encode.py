"""Batches as micro-batches: of one size each, whatever the model cannot read."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from c3l_ray.errors import C3LError
from c3l_ray.scenes import world
from c3l_ray.schema import Record
from c3l_ray.train.reading.batches import MicroBatch
from c3l_ray.train.reading.chat_text import SKIP_REASONS, Example
from c3l_ray.train.reading.encode import encode_batch, load_training_processor
from c3l_ray.train.reading.examples import make_example
from c3l_ray.train.reading.mixture import DRAW_RANGE, TurnDraw
from c3l_ray.train.training_config import ModelToTune, Optimization, TrainConfig
from tests.train.records import MakeTrainConfig, make_record


def encode(
    records: list[Record],
    config: TrainConfig,
    *,
    num_workers: int = 1,
    accumulation_steps: int = 1,
    draws: list[TurnDraw] | None = None,
    filler: Record | None = None,
) -> list[MicroBatch]:
    return list(
        encode_batch(
            records,
            config,
            {},
            num_workers=num_workers,
            accumulation_steps=accumulation_steps,
            draws=draws,
            filler=filler,
        )
    )


def count_skipped(micro_batches: list[MicroBatch]) -> dict[str, int]:
    counts = sum(micro_batch["skipped_S"] for micro_batch in micro_batches)
    assert isinstance(counts, Tensor)
    return {
        reason: count for reason, count in zip(SKIP_REASONS, counts.tolist(), strict=True) if count
    }


@pytest.mark.parametrize("spoilt", ["damaged image", "no image", "answers of special tokens"])
def test_records_that_the_model_cannot_read_fill_their_place_at_weight_0(
    train_config: MakeTrainConfig, processor: Any, spoilt: str
) -> None:
    record = make_record(0)
    if spoilt == "answers of special tokens":
        for turn in record["turns"]:
            turn["answer"] = "</s>"
    else:
        record["image"] = b"not an image" if spoilt == "damaged image" else None
    config = train_config()
    reason = "altered_text" if spoilt == "answers of special tokens" else "unusable_image"
    assert make_example(record, processor, config, {}) == reason
    records = [make_record(1), record, make_record(2)]
    micro_batches = encode(records, config, num_workers=2)
    assert [micro_batch["weight_B"].tolist() for micro_batch in micro_batches] == [[1, 0], [0, 1]]
    assert count_skipped(micro_batches) == {reason: 1}
    with pytest.raises(C3LError, match="none of the 1 images"):
        encode(records[1:2], config)


def test_texts_over_the_limit_are_skipped(train_config: MakeTrainConfig) -> None:
    short, long = make_record(1), make_record(2)
    long["turns"][1]["answer"] = "red " * 300
    config = train_config(model=ModelToTune(name=str(world.LLAVA), max_len=200))
    (micro_batch,) = encode([long, short], config)
    assert micro_batch["weight_B"].tolist() == [0, 1]
    assert count_skipped([micro_batch]) == {"too_long": 1}
    assert micro_batch["input_ids"].shape[1] <= 200
    with pytest.raises(C3LError, match="max-len 200"):
        encode([long], config)


@pytest.mark.parametrize("spoilt", ["image", "length"])
def test_a_batch_of_which_nothing_can_be_learnt_holds_what_the_run_learns_elsewhere(
    train_config: MakeTrainConfig, spoilt: str
) -> None:
    records = [make_record(number) for number in range(3)]
    for record in records:
        if spoilt == "image":
            record["image"] = b""
        else:
            record["turns"][1]["answer"] = "red " * 300
    config = train_config(model=ModelToTune(name=str(world.LLAVA), max_len=200))
    micro_batches = encode(
        records, config, num_workers=2, accumulation_steps=2, filler=make_record(9)
    )
    assert [micro_batch["weight_B"].tolist() for micro_batch in micro_batches] == [[0]] * 4
    assert all(micro_batch["is_empty"] for micro_batch in micro_batches)
    reason = "unusable_image" if spoilt == "image" else "too_long"
    assert count_skipped(micro_batches) == {reason: 3}
    (filled,) = encode([make_record(9)], config)
    assert not filled["is_empty"]
    assert micro_batches[0]["input_ids"].tolist() == filled["input_ids"].tolist()
    records[1] = make_record(1)
    micro_batches = encode(records, config, num_workers=2, filler=make_record(9))
    assert not any(micro_batch["is_empty"] for micro_batch in micro_batches)
    with pytest.raises(C3LError, match="none of the 1 images of a batch"):
        encode(records[:1], config, filler=records[2])


def test_micro_batches_have_the_same_number_of_images(train_config: MakeTrainConfig) -> None:
    records = [make_record(number) for number in range(5)]
    micro_batches = encode(records, train_config(), num_workers=2, accumulation_steps=2)
    weights = [micro_batch["weight_B"].tolist() for micro_batch in micro_batches]
    assert weights == [[1, 0], [1, 0], [1, 0], [1, 1]]


def test_a_skipped_image_is_counted_once_by_its_reason(train_config: MakeTrainConfig) -> None:
    records = [make_record(number) for number in range(7)]
    records[0]["turns"][1]["answer"] = records[5]["turns"][1]["answer"] = "red " * 300
    records[2]["image"] = b""
    config = train_config(model=ModelToTune(name=str(world.LLAVA), max_len=200))
    micro_batches = encode(records, config, num_workers=2, accumulation_steps=2)
    assert count_skipped(micro_batches) == {"too_long": 2, "unusable_image": 1}
    assert sum(int(micro_batch["weight_B"].sum()) for micro_batch in micro_batches) == 4


def target_ids(micro_batch: MicroBatch) -> list[list[int]]:
    """The tokens that are learnt of each image that has a weight, one text an image."""
    return [
        micro_batch["input_ids"][row][micro_batch["target_RT"][row] > 0].tolist()
        for row in range(len(micro_batch["input_ids"]))
        if micro_batch["weight_B"][row]
    ]


@given(st.data(), st.integers(1, 3), st.integers(1, 4))
@settings(
    deadline=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_number_of_workers_learns_the_same(
    train_config: MakeTrainConfig, data: st.DataObject, num_workers: int, size: int
) -> None:
    records = [make_record(number % 3) for number in range(6)]
    numbers = st.tuples(st.integers(0, 4), st.integers(0, DRAW_RANGE - 1))
    draws = [TurnDraw(*data.draw(numbers)) for _ in records]
    config = train_config(objective="vigc")
    optim = Optimization(batch_size=len(records), micro_batch=size)
    micro_batches = encode(
        records,
        config,
        num_workers=num_workers,
        accumulation_steps=optim.count_accumulation_steps(num_workers),
        draws=draws,
    )
    learnt = [ids for micro_batch in micro_batches for ids in target_ids(micro_batch)]
    (whole,) = encode(records, config, draws=draws)
    assert learnt == target_ids(whole)


def test_the_date_that_a_template_writes_is_that_of_the_run(
    train_config: MakeTrainConfig, tmp_path: Path
) -> None:
    name = shutil.copytree(world.LLAVA, tmp_path / "dated")
    template = name / "chat_template.jinja"
    template.write_text("{{ strftime_now('%Y') }} " + template.read_text())
    model = ModelToTune(name=str(name))

    def read_text(date: str) -> str:
        config = train_config(model=model, prompt_date=date)
        example = make_example(make_record(1), load_training_processor(config), config, {})
        assert isinstance(example, Example)
        return example.texts[0].text

    assert "1999 " in read_text("1999-01-02") and "2001 " in read_text("2001-01-02")
