"""Replies as they are learnt: what the parser of generated replies reads back."""

from c3l_ray.methods import c3l
from tests.train.records import make_record


def test_a_json_instruction_is_replied_to_in_json() -> None:
    instruction = f"Ask something. {c3l.FORMAT_REQUESTS['json']}"
    reply = c3l.format_reply('Is it "red"?', "Yes.", instruction)
    assert reply.startswith("{") and c3l.parse_reply(reply) == ('Is it "red"?', "Yes.")


def test_a_turn_is_read_back_from_its_reply() -> None:
    for turn in (turn for number in range(20) for turn in make_record(number)["turns"]):
        question, answer = str(turn["question"]), str(turn["answer"])
        reply = c3l.format_reply(question, answer, turn["instruction"])
        assert c3l.parse_reply(reply) == (question, answer)
