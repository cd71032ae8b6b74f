"""Two texts word by word: which words stayed, which went and which came."""

import re
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

Change = Literal["same", "removed", "added"]

_WORD = re.compile(r"\s+|[^\W_]+|.", re.DOTALL)
_CHARACTERS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
"""Of scripts without blanks between words, each character is a word."""


class TextPart(NamedTuple):
    """A piece of text, and what became of it."""

    change: Change
    text: str


def compare_texts(before: str, after: str) -> list[TextPart]:
    """The parts of two texts in reading order; what was removed stands before what was added."""
    old, new = _split_words(before), _split_words(after)
    parts: list[TextPart] = []
    for operation, first, last, start, end in SequenceMatcher(
        a=old, b=new, autojunk=False
    ).get_opcodes():
        if operation == "equal":
            parts.append(TextPart("same", "".join(old[first:last])))
            continue
        for change, words in (("removed", old[first:last]), ("added", new[start:end])):
            if words:
                parts.append(TextPart(change, "".join(words)))  # type: ignore[arg-type]
    return parts


def _split_words(text: str) -> list[str]:
    words: list[str] = []
    for word in _WORD.findall(text):
        words += word if _CHARACTERS.search(word) else [word]
    return words
