"""The truth of a turn about a scene: its words are read back into a form's slots, and checked."""

import re
from collections import Counter
from collections.abc import Mapping

from c3l_ray.scenes.draw import CELLS, COLOURS, SHAPES, Scene
from c3l_ray.scenes.language import FORMS, NAMES, NUMBERS, RELATIONS, Form, Slots, article, related

TRUE, FALSE, UNKNOWN = "true", "false", "unknown"


def _any_of(words: tuple[str, ...]) -> str:
    return "|".join(words)


_WITH_ARTICLE = tuple(f"{article(name)} {name}" for name in NAMES)
_THING = _any_of(_WITH_ARTICLE)
_COLOUR = _any_of(tuple(COLOURS))
_PATTERNS = {
    "shape": _any_of(SHAPES),
    "colour": _COLOUR,
    "wrong": _COLOUR,
    "name": _any_of(NAMES),
    "other": _any_of(NAMES),
    "cell": _any_of(CELLS),
    "other_cell": _any_of(CELLS),
    "thing": f"{_THING}|nothing",
    "count": _any_of(NUMBERS),
    "relation": _any_of(RELATIONS),
    "list": f"(?:{_THING})(?:, (?:{_THING}))*(?: and (?:{_THING}))?",
    "a": "an?",
    "be": "is|are",
    "s": "s?",
}


def judge(scene: Scene, turn: Mapping[str, str | None]) -> str:
    """Whether a turn about the scene is "true", "false" or "unknown".

    A turn is false as soon as one of its sentences is: also where its question speaks of a thing
    that the scene does not hold. It is unknown where the question has no known form, or the answer
    is not one to this question.

    Args:
        scene: what the image shows.
        turn: with `question` and `answer`, either of which may be None.
    """
    question, answer = turn["question"], turn["answer"]
    if not question or not answer:
        return UNKNOWN
    for form in FORMS:
        asked = _read(form.question, question, {})
        if asked is None:
            continue
        if form.kind == "detail":
            return _judge_sentences(scene, form, answer)
        said = _read(form.answer, answer, asked)
        if said is not None:
            return TRUE if _holds(scene, form, {**asked, **said}) else FALSE
    return UNKNOWN


def _judge_sentences(scene: Scene, form: Form, answer: str) -> str:
    """False if one sentence is false, else unknown if one cannot be read, else true."""
    sentences = [_read(form.answer, s, {}) for s in re.split(r"(?<=\.)\s+", answer.strip())]
    if any(slots is not None and not _holds(scene, form, slots) for slots in sentences):
        return FALSE
    return TRUE if all(slots is not None for slots in sentences) else UNKNOWN


def _read(template: str, text: str, known: Slots) -> Slots | None:
    """The words in a template's slots, with those already known held fixed; None if it differs."""
    parts = re.split(r"{(\w+)}", template)
    pattern = ""
    for literal, slot in zip(parts[::2], [*parts[1::2], ""], strict=True):
        pattern += re.escape(literal)
        if slot:
            words = re.escape(known[slot]) if slot in known else _PATTERNS[slot]
            pattern += f"(?P<{slot}>{words})"
    match = re.fullmatch(pattern, text.strip())
    return match.groupdict() if match else None


def _holds(scene: Scene, form: Form, slots: Slots) -> bool:
    """Whether everything that the slots of a form claim is so in the scene."""
    named = Counter(thing.name for thing in scene.things)
    placed = {thing.cell: thing.name for thing in scene.things}
    shapes = Counter(thing.shape for thing in scene.things)
    claims = []
    if "relation" in slots:
        said_yes = form.answer.startswith("Yes")
        claims.append(
            related(slots["relation"], slots["cell"], slots["other_cell"]) == said_yes
            and placed.get(slots["other_cell"]) == slots["other"]
        )
    if "wrong" in slots:
        claims.append(slots["wrong"] != slots["colour"])
    if "thing" in slots:
        seen = placed.get(slots["cell"])
        claims.append(slots["thing"] == (f"{article(seen)} {seen}" if seen else "nothing"))
    elif "cell" in slots:
        claims.append(placed.get(slots["cell"]) == slots["name"])
    elif "name" in slots:
        claims.append((slots["name"] in named) == ("no {name}" not in form.answer))
    if "colour" in slots:
        claims.append(f"{slots['colour']} {slots['shape']}" in named)
    if "count" in slots:
        counted = shapes[slots["shape"]] if "shape" in slots else len(scene.things)
        claims.append(NUMBERS.index(slots["count"]) == counted)
    if "list" in slots:
        listed = Counter(re.findall("|".join(NAMES), slots["list"]))
        claims.append(listed == named)
    return all(claims)
