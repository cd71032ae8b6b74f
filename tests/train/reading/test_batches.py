"""Which tokens of a micro-batch are marked: what they say in the end."""

from typing import Any

import pytest
import torch

from c3l_ray import chat
from c3l_ray.methods import c3l
from c3l_ray.schema import Record
from c3l_ray.train.objectives import Contrast
from c3l_ray.train.reading import batches
from c3l_ray.train.reading.batches import MicroBatch
from c3l_ray.train.reading.encode import encode_batch, load_processor
from c3l_ray.train.training_config import TrainConfig
from tests.train.records import MakeTrainConfig, make_record


def encode(records: list[Record], config: TrainConfig) -> MicroBatch:
    """A batch in one micro-batch."""
    (micro_batch,) = encode_batch(records, config, {}, num_workers=1, accumulation_steps=1)
    return micro_batch


def decode(processor: Any, micro_batch: MicroBatch, mask: str, row: int) -> str:
    """The text that a mask marks in a row."""
    ids = micro_batch["input_ids"][row][micro_batch[mask][row] > 0]
    text: str = processor.tokenizer.decode(ids)
    return text.strip()


def test_an_image_is_preprocessed_once_for_its_texts(
    train_config: MakeTrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train_config()
    memo = load_processor(config.model.name, config.model.template_args).image_processor
    image_processor = type(memo._image_processor)
    preprocess, images = image_processor.__call__, []

    def preprocess_and_count(*args: Any, **options: Any) -> Any:
        images.append(args)
        return preprocess(*args, **options)

    records = [make_record(0), make_record(1)]
    encode(records, config)  # it tries the processor first
    monkeypatch.setattr(image_processor, "__call__", preprocess_and_count)
    assert len(encode(records, config)["owner_R"]) == 10
    assert len(images) == 2


def test_masks_mark_replies_anchors_and_targets(
    train_config: MakeTrainConfig, processor: Any
) -> None:
    records = [make_record(0), make_record(1)]
    micro_batch = encode(records, train_config())
    assert micro_batch["owner_R"].tolist() == [0] * 5 + [1] * 5
    assert micro_batch["positive_B"].tolist() == [0, 5]
    assert micro_batch["is_turn_R"].all() and micro_batch["weight_B"].tolist() == [1, 1]
    for image, record in enumerate(records):
        positive = record["turns"][1]  # the true one
        negatives = [turn for place, turn in enumerate(record["turns"]) if place != 1]
        for row, turn in enumerate([positive, *negatives], start=5 * image):
            reply = f"Question: {turn['question']} Answer: {turn['answer']}"
            assert decode(processor, micro_batch, "reply_RT", row) == reply
        first = 5 * image
        assert decode(processor, micro_batch, "anchor_RT", first) == positive["instruction"]
        reply = f"Question: {positive['question']} Answer: {positive['answer']}"
        assert decode(processor, micro_batch, "target_RT", first) == f"{reply}</s>"
        assert not micro_batch["target_RT"][first + 1 : first + 5].any()
        assert not micro_batch["anchor_RT"][first + 1 : first + 5].any()


def test_a_turn_made_elsewhere_replies_to_an_instruction_of_ours(
    train_config: MakeTrainConfig, processor: Any
) -> None:
    record = make_record(0)
    for turn in record["turns"]:
        turn["kind"], turn["instruction"] = "given", ""
    micro_batch = encode([record], train_config())
    instruction = c3l.plan_requests(record["image_id"], 1)[0].instruction
    assert decode(processor, micro_batch, "anchor_RT", 0) == instruction


def test_a_description_can_be_the_anchor(train_config: MakeTrainConfig, processor: Any) -> None:
    record = make_record(0)
    micro_batch = encode([record], train_config(contrast=Contrast(anchor="description")))
    assert micro_batch["is_turn_R"].tolist() == [True] * 5 + [False]
    assert decode(processor, micro_batch, "anchor_RT", 5) == record["caption"]
    assert not micro_batch["anchor_RT"][:5].any()


def test_tokens_that_the_image_does_not_help_are_not_learnt(
    train_config: MakeTrainConfig, processor: Any
) -> None:
    record = make_record(0)
    positive = record["turns"][1]
    question, answer = str(positive["question"]), str(positive["answer"])
    text, span = chat.render_turn(processor, question, answer, with_image=False)
    ids, start, end = chat.tokenize_with_span(processor.tokenizer, text, span)
    answer_ids = ids[start:end]
    positive["token_gains"] = [1.0, *[-0.5] * (len(answer_ids) - 2), 2.0]
    config = train_config(contrast=Contrast(token_weights="vig"))
    micro_batch = encode([record], config)
    target_ids = micro_batch["input_ids"][0][micro_batch["target_RT"][0] > 0].tolist()
    question_ids = processor.tokenizer(f" Question: {question} Answer:")["input_ids"][1:]
    assert target_ids == [
        *question_ids,
        answer_ids[0],
        answer_ids[-1],
        processor.tokenizer.eos_token_id,
    ]
    positive["token_gains"] = [1.0]  # of another tokenisation: learnt whole
    whole = decode(processor, encode([record], config), "target_RT", 0)
    assert whole == f"Question: {question} Answer: {answer}</s>"


def test_a_caption_is_asked_for_and_learnt(train_config: MakeTrainConfig, processor: Any) -> None:
    record = make_record(0)
    micro_batch = encode([record], train_config(objective="cgvlm"))
    assert decode(processor, micro_batch, "reply_RT", 0) == record["caption"]
    assert decode(processor, micro_batch, "target_RT", 0) == f"{record['caption']}</s>"


def test_a_micro_batch_travels_as_bytes(train_config: MakeTrainConfig) -> None:
    micro_batch = encode([make_record(0)], train_config())
    restored = batches.from_bytes(batches.to_bytes(micro_batch))
    assert restored.keys() == micro_batch.keys()
    assert all(torch.equal(restored[name], micro_batch[name]) for name in micro_batch)
