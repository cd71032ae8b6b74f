from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from c3l_ray import chat
from c3l_ray.errors import C3LError
from c3l_ray.methods import c3l
from c3l_ray.scenes import world
from c3l_ray.train.reading import batches
from c3l_ray.train.training_config import Contrast, TrainConfig, Tuned
from c3l_ray.train.reading.encode import encode
from c3l_ray.train.reading.examples import example
from tests.train.records import record

Make = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def processor() -> Any:
    return AutoProcessor.from_pretrained(world.LLAVA)


def one_share(records: list[dict[str, Any]], config: TrainConfig) -> batches.Batch:
    (share,) = encode(records, config, {}, num_workers=1, rounds=1)
    return share


def words(processor: Any, share: batches.Batch, mask: str, row: int) -> str:
    return processor.tokenizer.decode(share["input_ids"][row][share[mask][row] > 0]).strip()


def test_what_is_marked_is_what_was_meant(train_config: Make, processor: Any) -> None:
    records = [record(0), record(1)]
    share = one_share(records, train_config())
    assert share["owner_R"].tolist() == [0] * 5 + [1] * 5
    assert share["positive_B"].tolist() == [0, 5]
    assert share["is_turn_R"].all() and share["weight_B"].tolist() == [1, 1]
    for image, made in enumerate(records):
        positive = made["turns"][1]  # the true one
        negatives = [turn for place, turn in enumerate(made["turns"]) if place != 1]
        for row, turn in enumerate([positive, *negatives], start=5 * image):
            reply = f"Question: {turn['question']} Answer: {turn['answer']}"
            assert words(processor, share, "turn_RT", row) == reply
        first = 5 * image
        assert words(processor, share, "anchor_RT", first) == positive["instruction"]
        reply = f"Question: {positive['question']} Answer: {positive['answer']}"
        assert words(processor, share, "target_RT", first) == f"{reply}</s>"
        assert not share["target_RT"][first + 1 : first + 5].any()
        assert not share["anchor_RT"][first + 1 : first + 5].any()


def test_a_json_instruction_is_replied_to_in_json() -> None:
    instruction = f"Ask something. {c3l.FORMATS['json']}"
    written = c3l.format_reply('Is it "red"?', "Yes.", instruction)
    assert written.startswith("{") and c3l.parse_reply(written) == ('Is it "red"?', "Yes.")


def test_a_written_turn_is_read_back(train_config: Make) -> None:
    for turn in (turn for i in range(20) for turn in record(i)["turns"]):
        written = c3l.format_reply(turn["question"], turn["answer"], turn["instruction"])
        assert c3l.parse_reply(written) == (turn["question"], turn["answer"])


def test_a_turn_made_elsewhere_replies_to_an_instruction_of_ours(
    train_config: Make, processor: Any
) -> None:
    made = record(0)
    made["turns"] = [{**turn, "kind": "given", "instruction": ""} for turn in made["turns"]]
    share = one_share([made], train_config())
    asked = c3l.plan_requests(made["image_id"], 1)[0].instruction
    assert words(processor, share, "anchor_RT", 0) == asked


def test_a_description_can_be_the_anchor(train_config: Make, processor: Any) -> None:
    made = record(0)
    share = one_share([made], train_config(contrast=Contrast(anchor="description")))
    assert share["is_turn_R"].tolist() == [True] * 5 + [False]
    assert words(processor, share, "anchor_RT", 5) == made["caption"]
    assert not share["anchor_RT"][:5].any()


def test_tokens_that_the_image_does_not_help_are_not_learnt(
    train_config: Make, processor: Any
) -> None:
    made = record(0)
    positive = made["turns"][1]
    answer = positive["answer"]
    text, span = chat.answered(processor, positive["question"], answer, image=False)
    ids, start, end = chat.spanned_ids(processor.tokenizer, text, span)
    answer_ids = ids[start:end]
    positive["token_gain"] = [1.0, *[-0.5] * (len(answer_ids) - 2), 2.0]
    config = train_config(contrast=Contrast(token_weights="vig"))
    share = one_share([made], config)
    learnt_ids = share["input_ids"][0][share["target_RT"][0] > 0].tolist()
    question = processor.tokenizer(f" Question: {positive['question']} Answer:")["input_ids"][1:]
    assert learnt_ids == [
        *question,
        answer_ids[0],
        answer_ids[-1],
        processor.tokenizer.eos_token_id,
    ]
    positive["token_gain"] = [1.0]  # of another tokenisation: learnt whole
    whole = words(processor, one_share([made], config), "target_RT", 0)
    assert whole == f"Question: {positive['question']} Answer: {answer}</s>"


def test_a_caption_is_asked_for_and_learnt(train_config: Make, processor: Any) -> None:
    made = record(0)
    share = one_share([made], train_config(objective="cgvlm"))
    assert words(processor, share, "turn_RT", 0) == made["caption"]
    assert words(processor, share, "target_RT", 0) == f"{made['caption']}</s>"


@pytest.mark.parametrize(
    "spoilt",
    [
        {"image": b"not an image"},
        {"image": None},
        {"turns": [{**turn, "answer": "</s>"} for turn in record(0)["turns"]]},
    ],
)
def test_what_the_model_cannot_read_fills_its_place_at_weight_0(
    train_config: Make, spoilt: dict[str, Any]
) -> None:
    config = train_config()
    assert (
        example({**record(0), **spoilt}, AutoProcessor.from_pretrained(world.LLAVA), config, {})
        is None
    )
    records = [record(1), {**record(0), **spoilt}, record(2)]
    shares = list(encode(records, config, {}, num_workers=2, rounds=1))
    assert [share["weight_B"].tolist() for share in shares] == [[1, 0], [0, 1]]
    with pytest.raises(C3LError, match="none of the 1 images"):
        list(encode(records[1:2], config, {}, num_workers=1, rounds=1))


def test_sequences_over_the_limit_are_passed_over(train_config: Make) -> None:
    short, long = record(1), record(2)
    long["turns"][1]["answer"] = "red " * 300
    config = train_config(model=Tuned(name=str(world.LLAVA), max_len=200))
    share = one_share([long, short], config)
    assert share["weight_B"].tolist() == [0, 1] and share["input_ids"].shape[1] <= 200
    with pytest.raises(C3LError, match="max-len 200"):
        one_share([long], config)


def test_a_share_travels_as_bytes(train_config: Make) -> None:
    share = one_share([record(0)], train_config())
    back = batches.from_bytes(batches.to_bytes(share))
    assert back.keys() == share.keys()
    assert all(torch.equal(back[name], share[name]) for name in share)


def test_shares_have_the_same_number_of_images(train_config: Make) -> None:
    records = [record(i) for i in range(5)]
    shares = list(encode(records, train_config(), {}, num_workers=2, rounds=2))
    assert [share["weight_B"].tolist() for share in shares] == [[1, 0], [1, 0], [1, 0], [1, 1]]
