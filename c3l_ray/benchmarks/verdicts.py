"""What an answer says: yes, no or the letter of an option, or nothing that can be read as one.

An answer that says none of them is `None`, and is counted; it is never taken for "no".
"""

import re
from collections.abc import Mapping

YES, NO = "yes", "no"

NEGATIONS = frozenset(("no", "not", "none", "nothing", "cannot", "neither", "nor", "without"))
HEDGES = frozenset(
    ("sure", "certain", "tell", "determine", "unclear", "uncertain", "unable", "unknown", "sorry")
)
_WORD = re.compile(r"[a-z]+(?:['’][a-z]+)?")
_SENTENCE_END = re.compile(r"[.!?\n]")
_AFFIRMATION = ("there", "is"), ("there", "are")
_LETTER = re.compile(r"\W*([A-Za-z])(?:\W*$|\s*[.):\]]+(?:\s|$))")
_NAMED_LETTER = re.compile(
    r"\b(?i:answer|option|choice)(?:\s+is)?(?:\s+option)?\s*:?\s*[(\[\"'*]*([A-Z])\b"
)


def read_yes_or_no(answer: str | None) -> str | None:
    """Whether an answer says "yes" or "no"; None where it says neither.

    The first word decides where it is yes or no. Else it is the first sentence: one with a negation
    says no ("There isn't a dog."), one with "yes", or that begins with "there is" or "there are",
    says yes, and one that hedges ("I cannot tell.") says neither.
    """
    text = (answer or "").casefold().strip()
    words = _WORD.findall(text)
    if not words:
        return None
    if words[0] in (YES, NO):
        return words[0]
    sentences = (_WORD.findall(sentence) for sentence in _SENTENCE_END.split(text))
    first = next(words for words in sentences if words)
    if HEDGES & {*first}:
        return None
    if any(word in NEGATIONS or word.endswith(("n't", "n’t")) for word in first):
        return NO
    if YES in first or tuple(first[:2]) in _AFFIRMATION:
        return YES
    return None


def read_as_pope(answer: str | None) -> str:
    """Whether POPE's own script takes an answer for "yes" or "no".

    The script looks for "No", "no" or "not" among the words of the first sentence, without commas;
    whatever has none of them is yes, also an empty answer.

    Source: evaluate.py of github.com/AoiDragon/POPE, in words.
    """
    words = (answer or "").split(".")[0].replace(",", "").split(" ")
    return NO if {"No", "no", "not"} & set(words) else YES


def read_as_mme(answer: str | None) -> str | None:
    """Whether MME's own script takes an answer for "yes" or "no"; None where it says "other".

    The script looks at the first four characters of an answer, in small letters, for "yes" and then
    for "no".

    Source: calculation.py of MME's eval_tool, in words.
    """
    beginning = (answer or "").lower()
    beginning = beginning if beginning in (YES, NO) else beginning[:4]
    return YES if YES in beginning else NO if NO in beginning else None


def read_choice(answer: str | None, options: Mapping[str, str]) -> str | None:
    """The letter of the option that an answer chooses; None where it chooses none, or several.

    An answer chooses by its letter, alone or before a mark ("B", "(B)", "B. a dog"); by naming it
    ("The answer is B"); by the whole text of one option; or by holding the text of one only.

    Args:
        answer: of the model.
        options: by letter, their texts.
    """
    text = (answer or "").strip()
    if (match := _LETTER.match(text)) and match[1].upper() in options:
        return match[1].upper()
    named = {*_NAMED_LETTER.findall(text)} & options.keys()
    if len(named) == 1:
        return named.pop()
    said = _normalise(text)
    if not said:
        return None
    texts = {letter: _normalise(option) for letter, option in options.items()}
    equal = [letter for letter, option in texts.items() if option == said]
    if equal:
        return equal[0] if len(equal) == 1 else None
    held = [letter for letter, option in texts.items() if option and f" {option} " in f" {said} "]
    return held[0] if len(held) == 1 else None


def _normalise(text: str) -> str:
    """Words in small letters with single blanks between them, without marks at their ends."""
    words = (word.strip(".,;:!?\"'()[]") for word in text.casefold().split())
    return " ".join(word for word in words if word)
