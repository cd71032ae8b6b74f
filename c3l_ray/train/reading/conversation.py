"""A whole conversation as one text of which every reply is learnt: LLaVA's second stage.

The earlier questions and replies are the context of each reply, as they are when the model is
asked. Whatever else the chat template writes is context too.
"""

from functools import cache
from typing import Any

from c3l_ray import chat
from c3l_ray.schema import FOLLOW_UP, GIVEN, Record
from c3l_ray.train.reading.chat_text import ChatText, Span

Exchange = tuple[str, str]
"""A question and the reply to it."""

_MARK = "\ue002\ue003"  # of private use: it stands where replies would, and in no template

_special_tokens = cache(chat.special_tokens)  # some tokenizers have thousands


def find_exchanges(record: Record) -> list[Exchange]:
    """The usable turns of a record as one conversation, in their order; empty where there is none.

    A conversation with a system message is none: it is not rendered.

    Args:
        record: with its turns, their `kind`, `instruction` and `status`.
    """
    turns = [turn for turn in record["turns"] if turn["status"] == "ok"]
    if any(turn["kind"] in (GIVEN, FOLLOW_UP) and turn["instruction"] for turn in turns):
        return []
    return [(turn["question"] or "", turn["answer"] or "") for turn in turns]


def conversation_text(processor: Any, exchanges: list[Exchange]) -> ChatText:
    """A conversation about an image; each reply is a target, with what ends it where that is.

    A reply ends with the first special token after it. Where the template writes none before the
    next question, only the last reply learns to end: it has the end-of-sequence token after it.

    Args:
        processor: of the model.
        exchanges: of the conversation, at least one.

    Raises:
        ValueError: the tokenizer or the chat template changes one of the texts.
    """
    special_tokens = _special_tokens(processor)
    if any(token in text for token in special_tokens for texts in exchanges for text in texts):
        raise ValueError("a text holds what the tokenizer reads as more than text")
    text, spans = _render_conversation(processor, exchanges)
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


def _render_conversation(processor: Any, exchanges: list[Exchange]) -> tuple[str, list[Span]]:
    """The text of a conversation, and where each reply stands in it."""
    *earlier, (question, reply) = exchanges
    text, _ = chat.render_turn(processor, question, reply, with_image=True, history=earlier)
    marked, _ = chat.render_turn(
        processor,
        question,
        _MARK,
        with_image=True,
        history=[(earlier_question, _MARK) for earlier_question, _ in earlier],
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
