"""The truth of a turn about a scene: its words are read back into a form's slots, and checked."""

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from c3l_ray.scenes.draw import BIASED, CELLS, COLOURS, SHAPES, SIZES, Scene, Thing, World
from c3l_ray.scenes.language import FORMS, FULL_NAMES, NAMES, NUMBERS, QUALITIES, RELATIONS, Form, Slots, related

TRUE, FALSE, UNKNOWN = "true", "false", "unknown"

_THING = f"a (?:{'|'.join(FULL_NAMES)})"
_PLACE = f"the (?:{'|'.join(CELLS)})"
_WORDS: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "wrong": tuple(COLOURS),
    "size": tuple(SIZES),
    "other_size": tuple(SIZES),
    "quality": QUALITIES,
    "name": NAMES,
    "other": NAMES,
    "cell": CELLS,
    "other_cell": CELLS,
    "thing": (_THING, "nothing"),
    "count": NUMBERS,
    "relation": RELATIONS,
    "list": (f"{_THING}(?:(?:, {_THING})* and {_THING})?",),
    "places": (f"{_PLACE}(?:(?:, {_PLACE})* and {_PLACE})?",),
    "be": ("is", "are"),
    "s": ("s", ""),
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
    claims = _claims(turn)
    if any(claim is not None and not _holds(scene, *claim) for claim in claims):
        return FALSE
    return TRUE if claims and None not in claims else UNKNOWN


def from_prior(scene: Scene, turn: Mapping[str, str | None], world: World = BIASED) -> bool:
    """Whether what is false in a turn is what the world's bias table says.

    It is, sentence by sentence, where the sentence would be true of the scene if some of its things
    had the colour or size that their shapes tend to, or the shape that tends to their colour, or if
    the number of things is the usual one.
    """
    wrong = [claim for claim in _claims(turn) if claim is not None and not _holds(scene, *claim)]
    return bool(wrong) and all(_expected(scene, claim, world) for claim in wrong)


def _expected(scene: Scene, claim: tuple[Form, Slots], world: World) -> bool:
    form, slots = claim
    if "count" in slots and not {"shape", "quality", "list"} & set(slots):
        return NUMBERS.index(slots["count"]) == world.usual_count
    guesses = itertools.product(*(_looks(thing, world) for thing in scene.things))
    return any(_holds(replace(scene, things=things), form, slots) for things in guesses)


def question_form(question: str) -> str | None:
    """The template of a question, "What colour is the {shape}?", or None where none is known."""
    read = (form.question for form in FORMS if _read(form.question, question, {}) is not None)
    return next(read, None)


def _looks(thing: Thing, world: World) -> list[Thing]:
    """A thing as it is and as the bias table has it: with its shape's colour, its shape's size, or
    both; or with the shape that its colour goes with, as it is in size or as that shape tends to.
    """
    taste = world.taste(thing.shape)
    looks = {thing, replace(thing, colour=taste.colour)}
    looks |= {
        replace(thing, shape=other.shape) for other in world.tastes if other.colour == thing.colour
    }
    looks |= {replace(look, size=world.taste(look.shape).size) for look in looks}
    return sorted(looks, key=lambda look: look.full_name)


def _claims(turn: Mapping[str, str | None]) -> list[tuple[Form, Slots] | None]:
    """What a turn says, a form and its slots for each sentence; None for one that is not known."""
    question, answer = turn["question"], turn["answer"]
    if not question or not answer:
        return []
    asked = [(form, _read(form.question, question, {})) for form in FORMS]
    fitting = [(form, slots) for form, slots in asked if slots is not None]
    detail = any(form.kind == "detail" for form, _ in fitting)
    sentences = re.split(r"(?<=\.)\s+", answer.strip()) if detail else [answer]
    return [_claim(fitting, sentence) for sentence in sentences]


def _claim(fitting: list[tuple[Form, Slots]], sentence: str) -> tuple[Form, Slots] | None:
    """The form that answers the question with this sentence, and the slots of both."""
    for form, asked in fitting:
        said = _read(form.answer, sentence, asked)
        if said is not None:
            return form, {**asked, **said}
    return None


def _read(template: str, text: str, known: Slots) -> Slots | None:
    """The words in a template's slots, with those already known held fixed; None if it differs."""
    match = _pattern(template).fullmatch(text.strip())
    found = match.groupdict() if match else None
    if found is None or any(known.get(slot, word) != word for slot, word in found.items()):
        return None
    return found


@cache
def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"{(\w+)}", template)
    pattern = ""
    for literal, slot in zip(parts[::2], [*parts[1::2], ""], strict=True):
        pattern += re.escape(literal)
        if slot:
            pattern += f"(?P<{slot}>{'|'.join(_WORDS[slot])})"
    return re.compile(pattern)


def _holds(scene: Scene, form: Form, slots: Slots) -> bool:
    """Whether everything that the slots of a form claim is so in the scene."""
    placed = {thing.cell: thing for thing in scene.things}
    names = {thing.name for thing in scene.things}
    here = placed.get(slots.get("cell", ""))
    claims = []
    if "relation" in slots:
        there = placed.get(slots["other_cell"])
        said_yes = form.answer.endswith("so yes.")
        claims.append(there is not None and there.name == slots["other"])
        claims.append(related(slots["relation"], slots["cell"], slots["other_cell"]) == said_yes)
    if "wrong" in slots:
        claims.append(slots["wrong"] != slots["colour"])
    if "other_size" in slots:
        claims.append(slots["other_size"] != slots["size"])
    if "thing" in slots:
        claims.append(slots["thing"] == (f"a {here.full_name}" if here else "nothing"))
    elif "name" in slots and "cell" in slots:
        claims.append(here is not None and here.name == slots["name"])
    elif "name" in slots:
        claims.append((slots["name"] in names) == ("no {name}" not in form.answer))
    elif "cell" in slots:
        claims.append(here is not None and here.colour == slots["colour"])
    elif "shape" in slots and "count" not in slots:
        looks = {(thing.shape, thing.colour, thing.size) for thing in scene.things}
        shown = [look for look in looks if look[0] == slots["shape"]]
        claims.append(
            any(slots.get("colour", look[1]) == look[1] for look in shown)
            and any(slots.get("size", look[2]) == look[2] for look in shown)
        )
    if "count" in slots:
        counted = [
            thing
            for thing in scene.things
            if slots.get("shape", thing.shape) == thing.shape
            and slots.get("quality", thing.colour) in (thing.colour, thing.size)
        ]
        claims.append(NUMBERS.index(slots["count"]) == len(counted))
        if "places" in slots:
            named = re.findall("|".join(CELLS), slots["places"])
            claims.append(sorted(named) == sorted(thing.cell for thing in counted))
    if "list" in slots:
        listed = Counter(re.findall("|".join(FULL_NAMES), slots["list"]))
        claims.append(listed == Counter(thing.full_name for thing in scene.things))
    return all(claims)
