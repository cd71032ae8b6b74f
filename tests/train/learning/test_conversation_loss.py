"""The loss on the replies of conversations, against the bare model token by token."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from c3l_ray.images import decode_image
from c3l_ray.scenes import world
from c3l_ray.schema import Record
from c3l_ray.train.learning.learner import Learner
from c3l_ray.train.learning.loading import load_learner
from c3l_ray.train.objectives import TuneMode
from c3l_ray.train.reading.encode import encode_batch
from tests.train.learning.builders import CPU, SHIPPED_MODEL
from tests.train.records import MakeTrainConfig, make_record

CONVERSATIONS = [
    [("What colour is the circle?", "The circle is red."), ("Where is it?", "top left")],
    [("Is there a star?", "No."), ("Is it small?", "Yes, it is."), ("What is it?", "a square")],
    [("Describe the image.", "There is a large blue square.")],
]


def make_records() -> list[Record]:
    """Scenes with these conversations, the turns after the first of which follow it."""
    records = []
    for number, conversation in enumerate(CONVERSATIONS):
        record = make_record(number)
        record["turns"] = [
            {
                "kind": "follow_up" if place else "given",
                "instruction": "",
                "status": "ok",
                "question": question,
                "answer": answer,
            }
            for place, (question, answer) in enumerate(conversation)
        ]
        records.append(record)
    return records


def compute_expected_nll(processor: Any, record: Record) -> list[float]:
    """-ln p of each token of the replies and of their ends, each after all that was said before.

    The text is put together by hand, and each token has a forward pass of its own.
    """
    model = AutoModelForImageTextToText.from_pretrained(world.LLAVA)
    image = decode_image(record["image"], 10**6)
    tokenizer = processor.tokenizer
    prompt, nll = "", []
    for place, turn in enumerate(record["turns"]):
        prompt += f"USER:{'<image>' if place == 0 else ''} {turn['question']} ASSISTANT:"
        reply_ids = tokenizer(f" {turn['answer']}</s>", add_special_tokens=False)["input_ids"]
        inputs = processor(text=prompt, images=image, return_tensors="pt")
        ids = inputs["input_ids"][0].tolist()
        for reply_id in reply_ids:
            with torch.no_grad():
                logits = model(
                    input_ids=torch.tensor([ids]), pixel_values=inputs["pixel_values"]
                ).logits[0, -1]
            nll.append(-float(torch.log_softmax(logits.double(), dim=-1)[reply_id]))
            ids.append(reply_id)
        prompt += f" {turn['answer']}</s>"
    return nll


def test_only_replies_are_learnt_each_after_what_was_said_before(
    train_config: MakeTrainConfig, processor: Any
) -> None:
    config = train_config(objective="conversations", model=SHIPPED_MODEL)
    records = make_records()
    learner = load_learner(config, torch.float32, CPU)
    expected = [compute_expected_nll(processor, record) for record in records]
    for record, of_tokens in zip(records, expected, strict=True):
        (alone,) = encode_batch([record], config, {}, num_workers=1, accumulation_steps=1)
        assert int(alone["target_RT"].sum()) == len(of_tokens)
        target_ids = alone["input_ids"][alone["target_RT"] > 0]
        replies = "".join(f" {turn['answer']}</s>" for turn in record["turns"])
        assert processor.tokenizer.decode(target_ids) == replies
        assert measure(learner, alone)["nll"] == pytest.approx(
            sum(of_tokens) / len(of_tokens), abs=1e-4
        )
        # Token by token: the weight of the others is taken away.
        for place, position in enumerate(alone["target_RT"][0].nonzero().squeeze(1).tolist()):
            one_target_RT = torch.zeros_like(alone["target_RT"])
            one_target_RT[0, position] = 1.0
            one = measure(learner, {**alone, "target_RT": one_target_RT})
            assert one["nll"] == pytest.approx(of_tokens[place], abs=1e-4), place
    # In one micro-batch, of different lengths, each conversation counts the same.
    (together,) = encode_batch(records, config, {}, num_workers=1, accumulation_steps=1)
    sums = measure(learner, together)
    means = [sum(of_tokens) / len(of_tokens) for of_tokens in expected]
    assert sums["loss"] == sums["nll"] == pytest.approx(sum(means), abs=3e-4)
    assert sums["images"] == 3


def measure(learner: Learner, micro_batch: dict[str, torch.Tensor]) -> dict[str, float]:
    with torch.no_grad():
        return {name: value.item() for name, value in learner(micro_batch).items()}


@pytest.mark.parametrize("tune", ["lora", "full", "adapter"])
def test_conversations_are_learnt(train_config: MakeTrainConfig, tune: TuneMode) -> None:
    config = train_config(objective="conversations")
    (micro_batch,) = encode_batch(make_records(), config, {}, num_workers=1, accumulation_steps=1)
    learner = load_learner(config, torch.float32, CPU)
    adamw = torch.optim.AdamW(
        [weight for weight in learner.parameters() if weight.requires_grad], lr=1e-3
    )
    losses = []
    for _ in range(4):
        loss = learner(micro_batch)["loss"]
        loss.backward()
        adamw.step()
        adamw.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
