"""Replies as they are learnt: what the parser reads back, and under which prompts."""

from pathlib import Path
from typing import Any

import pytest

from c3l_ray import chat
from c3l_ray.methods import c3l
from c3l_ray.schema import Record
from c3l_ray.train.objectives import Contrast
from c3l_ray.train.reading.chat_text import ChatText, Example, reply_text
from c3l_ray.train.reading.encode import load_processor
from c3l_ray.train.reading.examples import make_example, make_instruction_and_reply
from c3l_ray.train.reading.mixture import DRAW_RANGE, TurnDraw
from c3l_ray.train.training_config import ModelToTune
from tests import thinking
from tests.train.records import MakeTrainConfig, make_record


def test_a_json_instruction_is_replied_to_in_json() -> None:
    instruction = f"Ask something. {c3l.FORMAT_REQUESTS['json']}"
    reply = c3l.format_reply('Is it "red"?', "Yes.", instruction)
    assert reply.startswith("{") and c3l.parse_reply(reply) == ('Is it "red"?', "Yes.")


def test_a_turn_is_read_back_from_its_reply() -> None:
    for turn in (turn for number in range(20) for turn in make_record(number)["turns"]):
        question, answer = str(turn["question"]), str(turn["answer"])
        reply = c3l.format_reply(question, answer, turn["instruction"])
        assert c3l.parse_reply(reply) == (question, answer)


SYSTEM = "You are a polite robot."


def make_foreign_record() -> Record:
    """Turns made elsewhere, the positive and one more of them under a system message."""
    record = make_record(0)
    for place, turn in enumerate(record["turns"]):
        turn["kind"], turn["instruction"] = "given", SYSTEM if place < 2 else ""
    return record


def make_texts(
    record: Record, model: str, train_config: MakeTrainConfig, **changes: Any
) -> list[ChatText]:
    config = train_config(model=ModelToTune(name=model), **changes)
    example = make_example(record, load_processor(model), config, {})
    assert isinstance(example, Example)
    return list(example.texts)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """The shipped model, with a chat template that takes a system message."""
    return thinking.write_model(tmp_path / "m", thinking.WITH_SYSTEM)


def test_a_system_message_is_no_instruction(train_config: MakeTrainConfig, model: str) -> None:
    """The turns are compared under the positive's prompt, so all are under its system message."""
    record = make_foreign_record()
    ours = c3l.plan_requests(record["image_id"], 1)[0].instruction
    texts = make_texts(record, model, train_config)
    for text in texts:
        prompt = chat.answer_prompt(load_processor(model), ours, with_image=True, system=SYSTEM)
        assert text.text.startswith(prompt) and text.text.count(SYSTEM) == 1
    anchor = texts[0].anchor
    assert anchor is not None and texts[0].text[slice(*anchor)] == ours


def test_likelihoods_are_under_each_turns_own_system_message(
    train_config: MakeTrainConfig, model: str
) -> None:
    texts = make_texts(
        make_foreign_record(), model, train_config, contrast=Contrast(similarity="likelihood")
    )
    assert [text.text.count(SYSTEM) for text in texts] == [1, 1, 0, 0, 0]  # the positive is first


def test_a_description_is_under_the_positives_prompt(
    train_config: MakeTrainConfig, model: str
) -> None:
    texts = make_texts(
        make_foreign_record(), model, train_config, contrast=Contrast(anchor="description")
    )
    assert all(text.text.startswith(f"{SYSTEM} USER:") for text in texts)


def test_instructions_of_our_own_are_no_system_message(
    train_config: MakeTrainConfig, model: str
) -> None:
    record = make_record(0)
    (text, *_) = make_texts(record, model, train_config)
    assert text.text.startswith(f"USER:<image> {record['turns'][1]['instruction']}")


@pytest.mark.parametrize("number", [0, DRAW_RANGE - 1], ids=["VIC", "VIG"])
def test_single_turns_are_learnt_under_their_system_message(
    train_config: MakeTrainConfig, model: str, number: int
) -> None:
    record, processor = make_foreign_record(), load_processor(model)
    config = train_config(objective="vigc", model=ModelToTune(name=model))
    for place, system in ((0, SYSTEM), (4, "")):
        draw = TurnDraw(place, number)
        instruction, reply = make_instruction_and_reply(record, config.mixture, draw)
        example = make_example(record, processor, config, {}, draw)
        assert isinstance(example, Example)
        (text,) = example.texts
        prompt = chat.answer_prompt(processor, instruction, with_image=True, system=system)
        assert text.text.startswith(prompt) and (SYSTEM in text.text) == bool(system)
        assert text.text[slice(*text.reply)] == reply


def test_a_system_message_of_special_tokens_is_skipped(
    train_config: MakeTrainConfig, model: str
) -> None:
    record = make_foreign_record()
    record["turns"][1]["instruction"] = "the end</s>"
    config = train_config(model=ModelToTune(name=model))
    assert make_example(record, load_processor(model), config, {}) == "altered_text"


def test_an_instruction_in_the_system_message_too_is_the_anchor_where_it_is_asked(
    model: str,
) -> None:
    text = reply_text(
        load_processor(model), "Describe it.", "A star.", system="Describe it.", anchor=True
    )
    assert text.anchor is not None
    assert text.text[: text.anchor[0]].endswith("USER:<image> ")
