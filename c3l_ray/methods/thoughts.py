"""Thoughts: what some models write between marks before they reply, and what is no part of it.

A chat template may open a thought in the prompt (`<think>` as its last word); a reply then begins
inside it, and only the closing mark tells where it ends.
"""

import re
from dataclasses import dataclass

MARKS = (
    ("<think>", "</think>"),  # Qwen, GLM, MiniCPM-V and most others
    ("<|channel>", "<channel|>"),  # Gemma 4
    ("[THINK]", "[/THINK]"),  # Mistral
    ("◁think▷", "◁/think▷"),  # Kimi-VL
)
"""The opening and the closing mark of thoughts, by family."""

_CHANNEL_NAME = "thought\n"  # what Gemma 4 writes after its opening mark
_CLOSED_THOUGHTS = re.compile(
    "|".join(rf"{re.escape(opening)}.*?{re.escape(closing)}\s*" for opening, closing in MARKS),
    re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class SplitReply:
    """A reply, and the thought before it.

    Attributes:
        thought: empty where the model wrote none.
        reply: what follows it; None where the model's words end inside a thought, or where a mark
            of thoughts stands elsewhere, so that what is reply cannot be told.
    """

    thought: str = ""
    reply: str | None


def split_reply(text: str, *, opened: bool) -> SplitReply:
    """What a model wrote, as its thoughts and its reply.

    Args:
        text: that the model wrote.
        opened: whether its prompt ends inside a thought.
    """
    thoughts, rest = [], text
    while opened or _find_opening_mark(rest):
        inside = rest if opened else rest.lstrip().removeprefix(_find_opening_mark(rest))
        thought, mark, following = _cut_at_closing(inside)
        if not mark:
            return SplitReply(reply=None)
        thoughts.append(thought.strip().removeprefix(_CHANNEL_NAME).strip())
        rest, opened = following.lstrip(), False
    thought = "\n\n".join(filter(None, thoughts))
    if any(mark in rest for pair in MARKS for mark in pair):
        return SplitReply(thought=thought, reply=None)
    return SplitReply(thought=thought, reply=rest)


def ends_in_thought(text: str) -> bool:
    """Whether a thought is open at the end of a text."""
    return any(text.rfind(opening) > text.rfind(closing) for opening, closing in MARKS)


def drop_closed_thoughts(text: str) -> str:
    """The text without its thoughts that are closed, and without the blanks after them."""
    return _CLOSED_THOUGHTS.sub("", text)


def _find_opening_mark(text: str) -> str:
    """The mark of a thought that a text begins with, or nothing."""
    begin = text.lstrip()
    return next((opening for opening, _ in MARKS if begin.startswith(opening)), "")


def _cut_at_closing(text: str) -> tuple[str, str, str]:
    """The text before the first closing mark, the mark, and the text after it."""
    closings = (closing for _, closing in MARKS if closing in text)
    first = min(closings, key=text.index, default="")
    return text.partition(first) if first else (text, "", "")
