"""Where a sentence ends, also in a text that is still being written.

VIGC accepts an answer one sentence at a time. Its code cuts at the first full stop, which also
stands in "e.g.", "3.5" and "p.m."; libraries that do better want to be told the language and the
whole text, and a reply comes in an unknown language and in pieces. A sentence that is taken for too
long costs little, one that is cut in two is wrong; so what cannot be told apart is joined.
"""

import re

# What stands before a full stop and always goes on.
_CONTINUING_ABBREVIATIONS = re.compile(
    r"(?i:e\.g|i\.e|z\.b|d\.h|cf|vs|ca|approx|incl|esp|resp|mrs?|ms|dr|prof|st|mt|rev|gen|capt|sgt"
    r"|lt|figs?|eq|vol|ch|pp|nr|bzw|mme|mlle|sra|dra)"
)
# What may end a sentence or not: the next word's first letter tells.
_AMBIGUOUS_ABBREVIATIONS = re.compile(
    r"(?i:etc|inc|ltd|co|corp|jr|sr|al|usw|.*[^\W\d]\..*)"
)  # and "p.m"
_END_MARKS = ".!?…।؟۔"
_WIDE_END_MARKS = "。！？｡"
_OPENING, _CLOSING = "([{“«「『（【《", ")]}”»」』）】》"
_END = re.compile(
    rf"(?P<mark>[{_END_MARKS}]+|[{_WIDE_END_MARKS}]+)(?P<closed>[\"'’*_{re.escape(_CLOSING)}]*)|\n"
)
_NEXT_CHARACTER = re.compile(r"\s*(\S?)")
_LIST_NUMBER = re.compile(r"(?:[-*•]\s)?\(?(?:\d{1,3}|[A-Za-z])")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")


def first_sentence(text: str, *, ended: bool) -> str | None:
    """The first sentence with the blanks before it, or None where it is not known to be over.

    A line's end ends a sentence, as in a list. Nothing inside quotation marks or brackets does.

    Args:
        text: from the beginning of the sentence on.
        ended: whether the text is whole; its end is then the end of a sentence too.
    """
    end = _find_first_end(text, ended=ended, quotes=True)
    if end is None and ended:  # a quotation that is never closed must not swallow the text
        end = _find_first_end(text, ended=True, quotes=False)
        return text if end is None else text[:end]
    return None if end is None else text[:end]


def first_paragraph(text: str, *, ended: bool) -> str | None:
    """The text up to a blank line, with the blanks before it; None where it may go on."""
    begin = len(text) - len(text.lstrip())
    blank = _BLANK_LINE.search(text, begin)
    if blank is None:
        return text if ended else None
    return text[: blank.start()]


def split_sentences(text: str) -> list[str]:
    """The sentences of a whole text, without the blanks between them."""
    sentences = []
    while text.strip():
        sentence = first_sentence(text, ended=True) or text
        text = text[len(sentence) :]
        sentences.append(sentence.strip())
    return sentences


def same_text(one: str, other: str) -> bool:
    """Whether two sentences differ in case, blanks and marks at most."""
    plain = (re.sub(r"[\W_]+", " ", text).strip().casefold() for text in (one, other))
    return next(plain) == next(plain)


def join_pieces(pieces: list[str]) -> str:
    """Sentences as a text: a line's end before one is kept, other blanks are one space or none."""
    text = ""
    for piece in pieces:
        blanks = piece[: len(piece) - len(piece.lstrip())]
        lines = min(blanks.count("\n"), 2)
        space = "" if text.endswith(tuple(_WIDE_END_MARKS)) else " "
        text += ("\n" * lines or space if text else "") + piece.strip()
    return text


def _find_first_end(text: str, *, ended: bool, quotes: bool) -> int | None:
    begin = seen = len(text) - len(text.lstrip())
    depth, num_quotes = 0, 0
    for end in _END.finditer(text, begin):
        if end.group() == "\n":
            return end.start()
        piece = text[seen : end.end()]
        seen = end.end()
        depth += sum(map(piece.count, _OPENING)) - sum(map(piece.count, _CLOSING))
        num_quotes += piece.count('"')
        if quotes and (depth > 0 or num_quotes % 2):
            continue
        over = _is_over(text, begin, end, ended=ended)
        if over is None:
            return None
        if over:
            return end.end()
    return None


def _is_over(text: str, begin: int, end: re.Match[str], *, ended: bool) -> bool | None:
    """Whether the sentence from `begin` ends with this mark; None where too little is written."""
    mark, closed = end["mark"], end["closed"]
    after = text[end.end() : end.end() + 1]
    if mark[0] in _WIDE_END_MARKS:
        return not closed or not after or after.isspace()
    if after and not after.isspace():  # 3.5, example.com
        return False
    if not after:
        return True if ended else None
    goes_on_in_small = bool(closed.strip("*_")) or len(mark) > 1 or mark == "…"
    if mark == ".":
        so_far = text[max(begin, end.start() - 40) : end.start()]
        word = re.split(r"\s", so_far)[-1].lstrip("\"'’*_" + _OPENING)
        if _CONTINUING_ABBREVIATIONS.fullmatch(word) or (len(word) == 1 and word.isalpha()):
            return False
        if _LIST_NUMBER.fullmatch(so_far) or (
            word == "No" and word != so_far
        ):  # "1. A cat", "No. 5"
            return False
        goes_on_in_small = goes_on_in_small or _AMBIGUOUS_ABBREVIATIONS.fullmatch(word) is not None
    if not goes_on_in_small:
        return True
    match = _NEXT_CHARACTER.match(text, end.end())
    following = match[1] if match else ""
    if not following:
        return True if ended else None
    return not (following.islower() or following.isdigit())
