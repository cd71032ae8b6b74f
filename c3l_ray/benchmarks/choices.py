# ruff: noqa: RUF001  # marks of other scripts are part of what is read
"""The option that an answer chooses, or none.

An answer that chooses none, or several, is `None`, and is counted; none is ever guessed.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

_CAPITAL = (
    # "A cat" and "I think" are words, but "A because" and "A is right" name an option.
    r"(?:[B-HJ-Z]|[AI](?![^\S\n]+(?!(?:because|since|is|as|based|due)\b)[\w\"'“‘(]*\w))"
    r"(?![A-Za-z0-9]|['’-]\w|\.[A-Za-z]\.)"  # no part of a word, of "T-shirt" or of "U.S."
)
_LEADING = re.compile(
    rf"\W*({_CAPITAL}|[AI](?=\s+\())"
    r"(?:\W*$|[ \t]*[\n.):\],;!\"”、。]|\s+[-–—(]|[–—]|-\s|(?=[\u3400-\u9fff]))"
)
_LEADING_SMALL = re.compile(r"\W*([a-z])(?:\W*$|[ \t]*\n|[ \t]*[.):\]]+(?:\s|$))")
_LIST_ITEM = re.compile(rf"^[^\w\n]*({_CAPITAL})[.):]", re.MULTILINE)
_STATED = re.compile(
    r"(?:(?i:\b(?:answer|choice|option)\s*(?:is|would be|should be|must be|[:-])"
    r"|\banswer\b|\b(?:choose|select|pick|go(?:ing)? with))"
    r"|答案(?:应该|应)?[是为选]?|应?选择?)"
    rf"(?i:\s*(?:the\s+)?(?:letter|option|choice))?\s*[:-]?\s*[(\[<\"'“]*({_CAPITAL})"
)
_STATED_SMALL = re.compile(r"(?i:\banswer\s*(?:is\s|:))\s*[(\[\"'“]*([a-z])(?=\W*$)")
_CONCLUDED = re.compile(
    r"(?i:\b(?:so|thus|hence|therefore),?|\bit(?:['’]s|\s+is))\s+"
    rf"[(\[\"'“]*({_CAPITAL})(?=[)\]\"'”]*(?:\s*$|[.,;!\n]))"
)
_BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\\w+\s*\{\s*)?\(?([A-Z])(?![A-Za-z0-9])")
_MENTIONED = re.compile(rf"(?:(?i:\b(?:option|choice))|选项)\s*[(\[\"'“]*({_CAPITAL})")
_DENIED = re.compile(r"[)\]\"'”]*\s+(?:(?:is|was)\s+(?:not|wrong|incorrect|false)|isn['’]t)\b")
_ANOTHER = re.compile(rf"\W*(?:[,/&、和或]|\band\b|\bor\b)\s*(?:and|or)?\s*[(\[]*({_CAPITAL})")
_MARKUP = re.compile(r"[*_`$#]+")
_MARKS = ".,;:!?\"'()[]“”‘’。，、；：！？（）【】「」"
_NEGATIONS = frozenset(("no", "not", "neither", "nor", "cannot"))
_NEGATION_REACH = 2  # words before a text: "not a cat"


def read_choice(answer: str | None, options: Mapping[str, str]) -> str | None:
    """The letter of the option that an answer chooses; None where it chooses none, or several.

    In this order an answer chooses by a letter that it states ("The answer is B", "so B.") or
    begins with ("B", "(B)", "B. a dog", "B, not the cat"), where these agree; by the option that it
    mentions ("Option B is right"); by the whole text of one option; by a letter before any word
    ("B because it barks"), where no other letter stands in it; or by holding the text of one option
    only, not denied ("not a dog"), where no other letter stands in it. A text inside a longer one
    that is held, as "dog" in "brown dog", is not held. "A" before a word is the article.

    Args:
        answer: of the model.
        options: by letter, their texts.
    """
    text = (answer or "").strip()
    plain = _make_plain(text)
    letters = _find_stated(text, plain, options) | _find_leading(plain, options)
    letters = letters or _find_mentioned(plain, options)
    if letters:
        return _take_only(letters)
    words = _split_words(text)
    spoken = [word.bare for word in words]
    texts = {letter: _normalise(option) for letter, option in options.items()}
    equal = {letter for letter, option in texts.items() if option and option == spoken}
    if equal:
        return _take_only(equal)
    held = _find_held(spoken, texts)
    covered = {place for hold in held for place in range(hold.start, hold.end)}
    alone = {
        place: words[place].raw.strip(_MARKS)
        for place in range(len(words))
        if place not in covered and _is_letter(words, place, options)
    }
    if 0 in alone and len({*alone.values()}) == 1 and not _DENIED.match(plain.lstrip()[1:]):
        return alone[0]
    chosen = {hold.letter for hold in held}
    if any(_is_denied(spoken, hold) for hold in held) or not {*alone.values()} <= chosen:
        return None
    return _take_only(chosen)


def _make_plain(text: str) -> str:
    """Marks of Latin width, without marks of Markdown and TeX, lines and words a blank apart."""
    text = _MARKUP.sub("", unicodedata.normalize("NFKC", text))
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def _take_only(letters: set[str]) -> str | None:
    return next(iter(letters)) if len(letters) == 1 else None


def _find_stated(text: str, plain: str, options: Mapping[str, str]) -> set[str]:
    """Letters that the answer says are its answer, and those listed with them."""
    found = {*_BOXED.findall(text), *map(str.upper, _STATED_SMALL.findall(plain))}
    for match in (*_STATED.finditer(plain), *_CONCLUDED.finditer(plain)):
        found |= {match[1], *_find_listed(plain, match.end(1))}
    return found & options.keys()


def _find_leading(plain: str, options: Mapping[str, str]) -> set[str]:
    """The letter that the answer begins with, and those listed with it."""
    if len({*_LIST_ITEM.findall(plain)} & options.keys()) > 1:
        return set()  # it repeats the options
    match = _LEADING.match(plain) or _LEADING_SMALL.match(plain)
    if match is None:
        match = re.match(rf"\W*({_CAPITAL})", plain)
        listed = _find_listed(plain, match.end(1)) if match else set()
        return {match[1], *listed} & options.keys() if match and listed else set()
    if match[1].upper() not in options:
        return set()
    return {match[1].upper(), *_find_listed(plain, match.end(1))} & options.keys()


def _find_listed(plain: str, end: int) -> set[str]:
    """Letters that follow one that ends here: C in "B or C"."""
    letters = set()
    while match := _ANOTHER.match(plain, end):
        letters.add(match[1])
        end = match.end(1)
    return letters


def _find_mentioned(plain: str, options: Mapping[str, str]) -> set[str]:
    found = {
        match[1] for match in _MENTIONED.finditer(plain) if not _DENIED.match(plain, match.end())
    }
    return found & options.keys()


class _Word(NamedTuple):
    """A word as it stands, and in small letters without marks at its ends."""

    raw: str
    bare: str


class _HeldText(NamedTuple):
    """The words from `start` to before `end` are the text of an option."""

    start: int
    end: int
    letter: str


def _split_words(text: str) -> list[_Word]:
    """Words that are more than marks."""
    words = (_Word(word, word.casefold().strip(_MARKS)) for word in text.split())
    return [word for word in words if word.bare]


def _normalise(text: str) -> list[str]:
    return [word.bare for word in _split_words(text)]


def _find_held(spoken: Sequence[str], texts: Mapping[str, Sequence[str]]) -> list[_HeldText]:
    """Where the answer holds texts of options, without those inside a longer one."""
    held: list[_HeldText] = []
    reach = [0] * len(spoken)  # by place, where a longer text ends that begins there or before
    for length in sorted({len(option) for option in texts.values() if option}, reverse=True):
        found = [
            _HeldText(start, start + length, letter)
            for letter, option in texts.items()
            if len(option) == length
            for start in range(len(spoken) - length + 1)
            if spoken[start : start + length] == option and start + length > reach[start]
        ]
        held += found
        for hold in found:
            reach[hold.start] = max(reach[hold.start], hold.end)
        reach = [*accumulate(reach, max)]
    return held


def _is_letter(words: Sequence[_Word], place: int, options: Mapping[str, str]) -> bool:
    """Whether a word is an option's letter that stands alone, and no article."""
    bare = words[place].raw.strip(_MARKS)
    following = " ".join(word.raw for word in words[place : place + 2])
    begin = following.index(bare)
    return bare in options and re.match(_CAPITAL, following[begin:]) is not None


def _is_denied(spoken: Sequence[str], hold: _HeldText) -> bool:
    before = spoken[max(0, hold.start - _NEGATION_REACH) : hold.start]
    return any(word in _NEGATIONS or word.endswith(("n't", "n’t")) for word in before)
