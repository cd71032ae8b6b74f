"""What is read of replies that begin with a thought."""

from pathlib import Path

import pytest

from c3l_ray.inference.engine_protocol import Reply
from c3l_ray.inference.reply_reader import ReplyReader
from c3l_ray.methods import c3l
from c3l_ray.processors import load_processor
from c3l_ray.schema import Turn
from tests import thinking

PAIR = "Question: What colour is the ball? Answer: Red."


def read_turn(reader: ReplyReader, text: str, finish_reason: str = "stop") -> Turn:
    reply = Reply(text=text, finish_reason=finish_reason, num_tokens=9)
    (turn,) = reader.read_turns(c3l.plan_requests("image", 1), [reply])
    return turn


def make_reader(folder: Path, template: str, *args: str) -> ReplyReader:
    return ReplyReader(load_processor(thinking.write_model(folder, template), args))


@pytest.mark.parametrize(
    ("text", "finish_reason", "status", "thought"),
    [
        (f"Hmm, what should I ask?\n</think>\n\n{PAIR}", "stop", "ok", "Hmm, what should I ask?"),
        (f"Question: A? Answer: B.\n</think>{PAIR}", "stop", "ok", "Question: A? Answer: B."),
        (f"Hm.</think>{PAIR}", "length", "truncated", "Hm."),
        ("Hm.</think>I see a cat.", "stop", "unparsable", "Hm."),
        ("Hm. Question: What? Answer: A cat.", "stop", "thought", None),
        ("Hm. Question: What? Answer: A cat.", "length", "thought", None),
        (f"Hm.</think>{PAIR} That works.</think>", "stop", "thought", None),
    ],
)
def test_a_reply_to_an_opened_thought_is_what_follows_it(
    tmp_path: Path, text: str, finish_reason: str, status: str, thought: str | None
) -> None:
    reader = make_reader(tmp_path / "m", thinking.ALWAYS)
    turn = read_turn(reader, text, finish_reason)
    assert (turn["status"], turn.get("thought")) == (status, thought)
    assert (turn["finish_reason"], turn["num_tokens"]) == (finish_reason, 9)
    if status == "ok":
        assert (turn["question"], turn["answer"]) == ("What colour is the ball?", "Red.")
    elif status == "thought":
        assert turn["reply"] == text and not turn.get("question")


def test_without_an_opened_thought_a_mark_is_no_part_of_an_answer(tmp_path: Path) -> None:
    reader = make_reader(tmp_path / "m", thinking.SWITCHED)
    assert read_turn(reader, PAIR)["status"] == "ok"
    assert read_turn(reader, PAIR).get("thought") is None
    assert read_turn(reader, f"<think>Hm.</think>{PAIR}")["thought"] == "Hm."
    assert read_turn(reader, f"{PAIR[:-1]}. That works.\n</think>")["status"] == "thought"


@pytest.mark.parametrize(
    ("template", "args", "opens", "may_think"),
    [
        (thinking.SHIPPED, (), False, False),
        (thinking.SWITCHED, (), False, False),
        (thinking.SWITCHED, ("enable_thinking=true",), True, True),
        (thinking.ALWAYS, (), True, True),
        (thinking.SHIPPED + "{{ enable_thinking or '' }}", ("enable_thinking=true",), False, True),
    ],
)
def test_a_model_may_think_where_it_is_asked_to(
    tmp_path: Path, template: str, args: tuple[str, ...], opens: bool, may_think: bool
) -> None:
    reader = make_reader(tmp_path / "m", template, *args)
    assert (reader.opens_thought, reader.may_think) == (opens, may_think)
    assert not reader.marks_are_special


def test_special_tokens_are_kept_for_their_marks_and_then_left_out(tmp_path: Path) -> None:
    processor = load_processor(thinking.write_model(tmp_path / "m", thinking.SHIPPED))
    processor.tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|channel>", "<channel|>", "<turn|>"]}
    )
    reader = ReplyReader(processor)
    assert reader.marks_are_special
    turn = read_turn(reader, f"<|channel>thought\nHm.<channel|>{PAIR}<turn|>")
    assert (turn["status"], turn["thought"], turn["answer"]) == ("ok", "Hm.", "Red.")
