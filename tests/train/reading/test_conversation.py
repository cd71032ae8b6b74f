"""Which conversations are learnt, and what is marked in their text."""

import copy
from typing import Any

import pytest

from c3l_ray.schema import Record, Turn
from c3l_ray.train.reading.conversation import (
    conversation_text,
    find_exchanges,
    find_system_message,
)
from tests import thinking
from tests.families import templates
from tests.train.records import make_record

EXCHANGES = [("What is it?", "A dog."), ("Where?", "On a bed."), ("", "No")]
REPLIES = ["A dog.", "On a bed.", "No"]
CHATML_SPECIALS = ("<|im_start|>", "<|im_end|>")


def make_turn(question: str | None, answer: str | None, **fields: Any) -> Turn:
    turn: Turn = {
        "kind": "given",
        "instruction": "",
        "status": "ok",
        "question": question,
        "answer": answer,
    }
    return {**turn, **fields}  # type: ignore[typeddict-item]


def make_conversation(*turns: Turn, **fields: Any) -> Record:
    return {**make_record(0), "turns": list(turns), **fields}  # type: ignore[typeddict-item]


def test_the_usable_turns_of_a_record_are_one_conversation() -> None:
    first, second = make_turn("Q", "A"), make_turn("R", "B", kind="follow_up")
    broken = make_turn("S", None, status="missing_answer", kind="follow_up")
    after = make_turn("T", "C", status="broken_history", kind="follow_up")
    leading = make_turn(None, "X", status="missing_question")
    assert find_exchanges(make_conversation(leading, first, second, broken, after)) == [
        ("Q", "A"),
        ("R", "B"),
    ]
    assert find_exchanges(make_conversation(broken)) == []
    generated = make_record(1)["turns"]
    assert len(find_exchanges(make_record(1))) == len(generated) == 5


def test_a_conversation_is_under_one_system_message() -> None:
    first = make_turn("Q", "A", instruction="You are polite.")
    follow_up = make_turn("R", "B", kind="follow_up", instruction="You are polite.")
    under_one = make_conversation(first, follow_up)
    assert len(find_exchanges(under_one)) == 2
    assert find_system_message(under_one) == "You are polite."
    assert find_exchanges(make_conversation(first, make_turn("R", "B"))) == []
    assert find_system_message(make_record(1)) == ""  # its instructions asked for its turns


@pytest.mark.parametrize(
    ("template", "start"),
    [
        (thinking.WITH_SYSTEM, "You are polite. USER:<image> What is it?"),
        (thinking.SHIPPED, "<image> You are polite.\n\nWhat is it?"),
    ],
)
def test_a_system_message_stands_where_the_template_takes_it(
    processor: Any, template: str, start: str
) -> None:
    processor = copy.deepcopy(processor)
    processor.chat_template = template
    text = conversation_text(processor, EXCHANGES, "You are polite.")
    assert start in text.text and text.text.count("You are polite.") == 1
    targets = [text.text[begin:end] for begin, end in text.targets]
    assert [target.startswith(reply) for target, reply in zip(targets, REPLIES, strict=True)] == [
        True
    ] * 3


@pytest.mark.parametrize(
    ("template", "specials", "ends"),
    [
        # No mark after an earlier reply; the last one has the end of sequence.
        (templates.LLAVA_1_5, (), ("", "", "</s>")),
        (templates.LLAVA_NEXT, (), ("</s>", "</s>", "</s>")),
        (templates.QWEN_2_5_VL, CHATML_SPECIALS, ("<|im_end|>",) * 3),
        # An empty thought stands before the last reply alone, and is context.
        (templates.QWEN_3_5, CHATML_SPECIALS, ("<|im_end|>",) * 3),
        (templates.IDEFICS_3, ("<end_of_utterance>",), ("<end_of_utterance>",) * 3),
    ],
    ids=["llava", "llava-next", "qwen", "qwen with thoughts", "idefics"],
)
def test_every_reply_is_a_target_with_its_end(
    processor: Any, template: str, specials: tuple[str, ...], ends: tuple[str, ...]
) -> None:
    processor = copy.deepcopy(processor)
    processor.chat_template = template
    processor.tokenizer.add_special_tokens({"additional_special_tokens": list(specials)})
    text = conversation_text(processor, EXCHANGES)
    targets = [text.text[start:end] for start, end in text.targets]
    assert targets == [reply + end for reply, end in zip(REPLIES, ends, strict=True)]
    assert text.text.endswith(targets[-1])
    assert text.text[slice(*text.reply)] == REPLIES[-1]
    starts = [start for start, _ in text.targets]
    assert starts == sorted(starts)
    for question, _ in EXCHANGES[:2]:
        assert text.text.count(question) == 1


@pytest.mark.parametrize(
    ("template", "exchanges", "message"),
    [
        (None, [("Q", "the end</s>"), ("R", "B")], "reads as more than text"),
        (None, [("Q<image>", "A"), ("R", "B")], "reads as more than text"),
        (templates.GEMMA_3, [("Q", " A"), ("R", "B")], "changes the reply ' A'"),
        ("{{ messages[-1].content[0].text }}", [("Q", "A"), ("R", "B")], "leaves out a reply"),
    ],
)
def test_a_conversation_that_is_not_rendered_as_it_is_is_refused(
    processor: Any, template: str | None, exchanges: list[tuple[str, str]], message: str
) -> None:
    processor = copy.deepcopy(processor)
    processor.chat_template = template or processor.chat_template
    with pytest.raises(ValueError, match=message):
        conversation_text(processor, exchanges)
