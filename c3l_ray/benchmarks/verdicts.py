"""What an answer to a yes-or-no question says: yes or no, or nothing that can be read as one.

An answer that says neither is `None`, and is counted; it is never taken for "no".
"""

import re

YES, NO = "yes", "no"

NEGATIONS = frozenset(("no", "not", "none", "nothing", "cannot", "neither", "nor", "without"))
HEDGES = frozenset(
    ("tell", "determine", "unclear", "uncertain", "unable", "unknown", "sorry", "maybe", "perhaps")
)
_WORD = re.compile(r"[a-z]+(?:['’][a-z]+)?")
_SENTENCE_END = re.compile(r"[.!?\n]")
_NO_DOUBT = re.compile(r"\b(?:no|without(?: a| any)?) (?:doubt|question)\b")
_BOTH = re.compile(r"\b(?:yes\W+(?:and|or)\W+no|no\W+(?:and|or)\W+yes|yes ?/ ?no)\b(?!\s+\w)")
_NOT_SURE = re.compile(
    r"(?:\bnot|\bcannot|n['’]t)\s+(?:[\w%'’]+\s+){0,3}?"
    r"(?:sure|certain|able|know|clear|possible|enough)\b"
)
_AFFIRMATION = re.compile(
    r"(?<!\bif )(?<!\bwhether )\bthere(?:['’]s|['’]re|\s+(?:\w+ly\s+|also\s+)?"
    r"(?:is|are|was|were|exists?|(?:appears?|seems?)\s+to\s+be))\b"
)


def read_yes_or_no(answer: str | None) -> str | None:
    """Whether an answer says "yes" or "no"; None where it says neither, or both.

    The first word decides where it is yes or no, unless the first sentence says both ("Yes and
    no."). Else it is the first sentence. One that hedges ("I cannot tell.", "I'm not sure.") says
    neither. Of "yes" and a negation ("There isn't a dog.") the first counts. One without them that
    holds "there is", or the like, says yes ("In the image, there is a dog.").
    """
    text = (answer or "").casefold().strip()
    first = next((part for part in _SENTENCE_END.split(text) if _WORD.search(part)), "")
    if _BOTH.search(first):
        return None
    words = _WORD.findall(_NO_DOUBT.sub("", first))
    if words[:1] in ([YES], [NO]):
        return words[0]
    if HEDGES & {*words} or _NOT_SURE.search(first):
        return None
    for word in words:
        if word == YES:
            return YES
        if word in NEGATIONS or word.endswith(("n't", "n’t")):
            return NO
    return YES if _AFFIRMATION.search(first) else None


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
