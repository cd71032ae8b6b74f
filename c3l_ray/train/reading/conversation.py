"""A whole conversation as one text of which every reply is learnt: LLaVA's second stage.

The earlier questions and replies are the context of each reply, as they are when the model is
asked. Whatever else the chat template writes is context too.
"""

from functools import cache
from typing import Any

from c3l_ray import chat
from c3l_ray.methods import c3l
from c3l_ray.schema import Record
from c3l_ray.train.reading.chat_text import ChatText, Span

Exchange = tuple[str, str]
"""A question and the reply to it."""

_MARK = "\ue002\ue003"  # of private use: it stands where replies would, and in no template

_special_tokens = cache(chat.special_tokens)  # some tokenizers have thousands


def find_exchanges(record: Record) -> list[Exchange]:
    """The usable turns of a record as one conversation, in their order; empty where there is none.

    Turns under different system messages are no conversation.

    Args:
        record: with its turns, their `kind`, `instruction` and `status`.
    """
    if len(_system_messages(record)) > 1:
        return []
    turns = [turn for turn in record["turns"] if turn["status"] == "ok"]
    return [(turn["question"] or "", turn["answer"] or "") for turn in turns]


def find_system_message(record: Record) -> str:
    """The system message of a record that is one conversation; empty where it has none."""
    return next(iter(_system_messages(record)), "")


def _system_messages(record: Record) -> set[str]:
    usable = (turn for turn in record["turns"] if turn["status"] == "ok")
    return {c3l.system_message(turn["kind"], turn["instruction"]) for turn in usable}


def conversation_text(processor: Any, exchanges: list[Exchange], system: str = "") -> ChatText:
    """A conversation about an image; each reply is a target, with what ends it where that is.

    A reply ends with the first special token after it. Where the template writes none before the
    next question, only the last reply learns to end: it has the end-of-sequence token after it.

    Args:
        processor: of the model.
        exchanges: of the conversation, at least one.
        system: the system message, or nothing.

    Raises:
        ValueError: the tokenizer or the chat template changes one of the texts.
    """
    special_tokens = _special_tokens(processor)
    texts = [system, *(text for exchange in exchanges for text in exchange)]
    if any(token in text for token in special_tokens for text in texts):
        raise ValueError("a text holds what the tokenizer reads as more than text")
    text, spans = _render_conversation(processor, exchanges, system)
    targets: list[Span] = []
    starts_of_next = [start for start, _ in spans[1:]]
    for (start, end), next_start in zip(spans, [*starts_of_next, len(text)], strict=True):
        between = text[end:next_start]
        ends = [between.index(token) + len(token) for token in special_tokens if token in between]
        targets.append((start, end + min(ends, default=0)))
    start, end = spans[-1]
    text = text[: targets[-1][1]]
    if len(text) == end:
        text += processor.tokenizer.eos_token
        targets[-1] = (start, len(text))
    return ChatText(text=text, reply=(start, end), targets=tuple(targets))


def _render_conversation(
    processor: Any, exchanges: list[Exchange], system: str
) -> tuple[str, list[Span]]:
    """The text of a conversation, and where each reply stands in it."""
    *earlier, (question, reply) = exchanges
    text, _ = chat.render_turn(
        processor, question, reply, with_image=True, history=earlier, system=system
    )
    marked, _ = chat.render_turn(
        processor,
        question,
        _MARK,
        with_image=True,
        history=[(earlier_question, _MARK) for earlier_question, _ in earlier],
        system=system,
    )
    # A template may write another text before an earlier reply than before the last one.
    pieces = marked.split(_MARK)
    if len(pieces) != len(exchanges) + 1:
        raise ValueError("the model's chat template leaves out a reply, or repeats one")
    spans: list[Span] = []
    position = 0
    for piece, (_, reply) in zip(pieces, exchanges, strict=False):
        if not text.startswith(piece + reply, position):
            raise ValueError(f"the model's chat template changes the reply {reply!r}")
        start = position + len(piece)
        position = start + len(reply)
        spans.append((start, position))
    if text[position:] != pieces[-1]:
        raise ValueError("the model's chat template changes the end of the conversation")
    return text, spans
