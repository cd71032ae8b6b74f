"""The best and the worst answer to a question, as texts of which the answers alone are learnt.

A turn of our own kinds is a reply to its instruction that holds the question too: the question is
the beginning that both replies share, and has no loss. A turn that was made elsewhere is asked its
question, a follow-up after the usable turns before it.
"""

import dataclasses
from typing import Any

from c3l_ray.methods import c3l, ranking
from c3l_ray.methods.answers import AnswerPair, AnswerRules, LeftOutReason, choose_pair
from c3l_ray.schema import FOLLOW_UP, Record
from c3l_ray.train.reading.chat_text import ChatText, reply_text
from c3l_ray.train.reading.conversation import conversation_text

_MARK = "\ue004\ue005"  # of private use: it stands where an answer would


def find_pairs(record: Record, rules: AnswerRules) -> dict[int, AnswerPair | LeftOutReason]:
    """By the place of each usable turn of a record, its pair, or why it is not learnt.

    Args:
        record: with the columns that `choose_pair` looks at, and the `image_id`.
        rules: of the choice.
    """
    if record["status"] != "ok":
        return {}
    return {
        place: choose_pair(turn, rules, drawn_from=f"{record['image_id']} {place}")
        for place, turn in enumerate(record["turns"])
        if turn["status"] == "ok" and turn["question"]  # "<image>" alone asks nothing
    }


def choose_place(record: Record, rules: AnswerRules) -> int:
    """The turn of a record that an evaluation takes: the same one every time."""
    pairs = find_pairs(record, rules)
    places = [place for place, pair in pairs.items() if isinstance(pair, AnswerPair)]
    return places[int(ranking.uniform_from(f"turn {record['image_id']}") * len(places))]


def pair_texts(
    record: Record, place: int, processor: Any, rules: AnswerRules
) -> tuple[ChatText, ChatText]:
    """The best answer to a turn's question, and the worst, each a target with its end.

    Raises:
        ValueError: the tokenizer or the chat template changes one of the texts.
    """
    pair = find_pairs(record, rules)[place]
    assert isinstance(pair, AnswerPair), "a usable turn has two answers"
    best, worst = (
        _answer_text(record, place, answer, processor) for answer in (pair.best, pair.worst)
    )
    return best, worst


def _answer_text(record: Record, place: int, answer: str, processor: Any) -> ChatText:
    turn = record["turns"][place]
    question = turn["question"] or ""
    system = c3l.system_message(turn["kind"], turn["instruction"])
    instruction = c3l.asking_instruction(turn["kind"], turn["instruction"])
    if not instruction:
        earlier = [
            (past["question"] or "", past["answer"] or "")
            for past in record["turns"][:place]
            if past["status"] == "ok" and turn["kind"] == FOLLOW_UP
        ]
        text = conversation_text(processor, [*earlier, (question, answer)], system)
        return dataclasses.replace(text, targets=text.targets[-1:])
    text = reply_text(
        processor, instruction, c3l.format_reply(question, answer, instruction), target=True
    )
    start = text.reply[0] + c3l.format_reply(question, _MARK, instruction).index(_MARK)
    return dataclasses.replace(text, targets=((start, len(text.text)),))
