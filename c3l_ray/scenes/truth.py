"""The truth of a turn about a scene: its words are read back into a form's slots, and checked."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Literal

from c3l_ray.scenes.draw import BIASED, CELLS, COLOURS, SHAPES, SIZES, Scene, Thing, World
from c3l_ray.scenes.language import FORMS, Form
from c3l_ray.scenes.slots import (
    FULL_NAMES,
    NAMES,
    NUMBERS,
    QUALITIES,
    RELATIONS,
    Slots,
    relation_holds,
)

Truth = Literal["true", "false", "unknown"]
TRUE: Truth = "true"
FALSE: Truth = "false"
UNKNOWN: Truth = "unknown"

Claim = tuple[Form, Slots]
"""What a sentence says: the form that it has, and the words in its slots and its question's."""

_THING = f"a (?:{'|'.join(FULL_NAMES)})"
_PLACE = f"the (?:{'|'.join(CELLS)})"
_SLOT_WORDS: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "wrong_colour": tuple(COLOURS),
    "size": tuple(SIZES),
    "wrong_size": tuple(SIZES),
    "quality": QUALITIES,
    "name": NAMES,
    "second_name": NAMES,
    "cell": CELLS,
    "second_cell": CELLS,
    "thing": (_THING, "nothing"),
    "count": NUMBERS,
    "relation": RELATIONS,
    "list": (f"{_THING}(?:(?:, {_THING})* and {_THING})?",),
    "places": (f"{_PLACE}(?:(?:, {_PLACE})* and {_PLACE})?",),
    "be": ("is", "are"),
    "s": ("s", ""),
}


def judge_turn(scene: Scene, question: str | None, answer: str | None) -> Truth:
    """Whether a turn about the scene is "true", "false" or "unknown".

    A turn is false as soon as one of its sentences is, also where its question names a thing that
    the scene does not hold. It is unknown where the question has no known form, or where the answer
    has no form that answers this question.
    """
    claims = _read_claims(question, answer)
    if any(claim is not None and not _holds(scene, claim) for claim in claims):
        return FALSE
    return TRUE if claims and None not in claims else UNKNOWN


def error_follows_bias(
    scene: Scene, question: str | None, answer: str | None, *, world: World = BIASED
) -> bool:
    """Whether the world's bias table explains what is false in a turn.

    It does where it explains each false sentence: where the sentence would be true of the scene if
    some of its things had the colour or size that their shapes tend to, or the shape that tends to
    their colour, or if the number of things were the usual one.
    """
    claims = _read_claims(question, answer)
    false_claims = [claim for claim in claims if claim is not None and not _holds(scene, claim)]
    return bool(false_claims) and all(_bias_explains(scene, claim, world) for claim in false_claims)


def question_form(question: str) -> str | None:
    """The template of a question, "What colour is the {shape}?", or None where none is known."""
    templates = (form.question for form in FORMS)
    return next((t for t in templates if _match_template(t, question, {}) is not None), None)


def _bias_explains(scene: Scene, claim: Claim, world: World) -> bool:
    _, slots = claim
    if "count" in slots and not {"shape", "quality", "list"} & set(slots):
        return NUMBERS.index(slots["count"]) == world.usual_count
    biased_things = itertools.product(*(_biased_looks(thing, world) for thing in scene.things))
    return any(_holds(replace(scene, things=things), claim) for things in biased_things)


def _biased_looks(thing: Thing, world: World) -> list[Thing]:
    """A thing as it is, and as the bias table may have it.

    That is with its shape's colour, its shape's size, or both; or with a shape that tends to its
    colour, in its own size or in the size that the shape tends to.
    """
    looks = {thing, replace(thing, colour=world.bias_of(thing.shape).colour)}
    looks |= {
        replace(thing, shape=bias.shape) for bias in world.bias_table if bias.colour == thing.colour
    }
    looks |= {replace(look, size=world.bias_of(look.shape).size) for look in looks}
    return sorted(looks, key=lambda look: look.full_name)


def _read_claims(question: str | None, answer: str | None) -> list[Claim | None]:
    """What a turn says, a claim for each sentence; None for a sentence of no known form."""
    if not question or not answer:
        return []
    matches = [(form, _match_template(form.question, question, {})) for form in FORMS]
    question_claims = [(form, slots) for form, slots in matches if slots is not None]
    is_detail = any(form.kind == "detail" for form, _ in question_claims)
    sentences = re.split(r"(?<=\.)\s+", answer.strip()) if is_detail else [answer]
    return [_read_claim(question_claims, sentence) for sentence in sentences]


def _read_claim(question_claims: list[Claim], sentence: str) -> Claim | None:
    """The first form of the question that the sentence has too, and the slots of both."""
    for form, question_slots in question_claims:
        answer_slots = _match_template(form.answer, sentence, question_slots)
        if answer_slots is not None:
            return form, {**question_slots, **answer_slots}
    return None


def _match_template(template: str, text: str, known_slots: Slots) -> Slots | None:
    """The words in a template's slots, or None where the text has another form or other words.

    Args:
        template: with slots in braces.
        text: to read.
        known_slots: words that slots of these names must hold.
    """
    match = _template_pattern(template).fullmatch(text.strip())
    if match is None:
        return None
    slots = match.groupdict()
    return (
        slots if all(known_slots.get(slot, word) == word for slot, word in slots.items()) else None
    )


@cache
def _template_pattern(template: str) -> re.Pattern[str]:
    pieces = re.split(r"{(\w+)}", template)  # literals and names of slots in turn
    pattern = ""
    for literal, slot in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
        pattern += re.escape(literal)
        if slot:
            pattern += f"(?P<{slot}>{'|'.join(_SLOT_WORDS[slot])})"
    return re.compile(pattern)


def _holds(scene: Scene, claim: Claim) -> bool:
    return all(_check_claim(scene, *claim))


def _check_claim(scene: Scene, form: Form, slots: Slots) -> Iterator[bool]:
    """Whether each of the things that the slots say is so in the scene."""
    things = {thing.cell: thing for thing in scene.things}
    cell_thing = things.get(slots.get("cell", ""))
    if "relation" in slots:
        second_thing = things.get(slots["second_cell"])
        says_yes = form.answer.endswith("so yes.")
        yield second_thing is not None and second_thing.name == slots["second_name"]
        yield relation_holds(slots["relation"], slots["cell"], slots["second_cell"]) == says_yes
    if "wrong_colour" in slots:
        yield slots["wrong_colour"] != slots["colour"]
    if "wrong_size" in slots:
        yield slots["wrong_size"] != slots["size"]
    if "thing" in slots:
        yield slots["thing"] == (f"a {cell_thing.full_name}" if cell_thing else "nothing")
    elif "name" in slots and "cell" in slots:
        yield cell_thing is not None and cell_thing.name == slots["name"]
    elif "name" in slots:
        says_present = "no {name}" not in form.answer
        yield any(slots["name"] == thing.name for thing in scene.things) == says_present
    elif "cell" in slots:
        yield cell_thing is not None and cell_thing.colour == slots["colour"]
    elif "shape" in slots and "count" not in slots:
        same_shape = [thing for thing in scene.things if thing.shape == slots["shape"]]
        yield any(slots.get("colour", thing.colour) == thing.colour for thing in same_shape)
        yield any(slots.get("size", thing.size) == thing.size for thing in same_shape)
    if "count" in slots:
        yield from _check_count(scene, slots)
    if "list" in slots:
        names = Counter(re.findall("|".join(FULL_NAMES), slots["list"]))
        yield names == Counter(thing.full_name for thing in scene.things)


def _check_count(scene: Scene, slots: Slots) -> Iterator[bool]:
    """Whether so many things have the shape or quality, and lie at the places, if any are named."""
    things = [
        thing
        for thing in scene.things
        if slots.get("shape", thing.shape) == thing.shape
        and slots.get("quality", thing.colour) in (thing.colour, thing.size)
    ]
    yield NUMBERS.index(slots["count"]) == len(things)
    if "places" in slots:
        places = re.findall("|".join(CELLS), slots["places"])
        yield sorted(places) == sorted(thing.cell for thing in things)
