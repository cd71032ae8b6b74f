"""The slots of forms: the words that may fill them, and true words drawn from a scene.

A drawer returns None where the scene holds nothing that it could draw.
"""

import random
from collections.abc import Callable

from c3l_ray.scenes.draw import CELLS, COLOURS, NUM_COLUMNS, SHAPES, SIZES, Scene, Thing

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
RELATIONS = ("above", "below", "left of", "right of")
QUALITIES = (*COLOURS, *SIZES)
NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
FULL_NAMES = tuple(f"{size} {name}" for size in SIZES for name in NAMES)

Slots = dict[str, str]
"""By the name of a slot, the words that fill it."""
SlotDrawer = Callable[[Scene, random.Random], Slots | None]
"""Draws true words for the slots of a form."""


def relation_holds(relation: str, cell: str, second_cell: str) -> bool:
    """Whether a thing in `cell` is above, below, left of or right of a thing in `second_cell`."""
    row, column = divmod(CELLS.index(cell), NUM_COLUMNS)
    second_row, second_column = divmod(CELLS.index(second_cell), NUM_COLUMNS)
    return {
        "above": row < second_row,
        "below": row > second_row,
        "left of": column < second_column,
        "right of": column > second_column,
    }[relation]


def list_things(scene: Scene) -> str:
    """Lists all things of a scene, as "a small red circle, a large blue star and a red square"."""
    return _join_phrases([f"a {thing.full_name}" for thing in scene.things])


def _join_phrases(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def fill_count(count: int) -> Slots:
    """A number, and the forms of words that agree with it."""
    be, s = ("is", "") if count == 1 else ("are", "s")
    return {"be": be, "count": NUMBERS[count], "s": s}


def draw_unique_shape(scene: Scene, rng: random.Random) -> Slots | None:
    """Draws a thing that no other shares its shape with, and its look."""
    shapes = [thing.shape for thing in scene.things]
    candidates = [thing for thing in scene.things if shapes.count(thing.shape) == 1]
    return _fill_look(rng.choice(candidates), rng) if candidates else None


def draw_occupied_cell(scene: Scene, rng: random.Random) -> Slots:
    """Draws a thing by its cell, and its look."""
    thing = rng.choice(scene.things)
    return {"cell": thing.cell, **_fill_look(thing, rng)}


def _fill_look(thing: Thing, rng: random.Random) -> Slots:
    return {
        "shape": thing.shape,
        "colour": thing.colour,
        "wrong_colour": rng.choice([colour for colour in COLOURS if colour != thing.colour]),
        "size": thing.size,
        "wrong_size": next(size for size in SIZES if size != thing.size),
    }


def draw_unique_name(scene: Scene, rng: random.Random) -> Slots | None:
    """Draws a thing that no other shares its name with, and its cell."""
    candidates = _uniquely_named_things(scene)
    if not candidates:
        return None
    thing = rng.choice(candidates)
    return {"name": thing.name, "cell": thing.cell}


def draw_any_cell(scene: Scene, rng: random.Random) -> Slots:
    """Draws a cell, and what is in it; cells that hold a thing come more often."""
    cell = rng.choice((*CELLS, *(thing.cell for thing in scene.things)))
    things = [thing for thing in scene.things if thing.cell == cell]
    return {"cell": cell, "thing": f"a {things[0].full_name}" if things else "nothing"}


def count_things(scene: Scene, _: random.Random) -> Slots:
    """Counts and lists all things."""
    return {**fill_count(len(scene.things)), "list": list_things(scene)}


def draw_present_shape(scene: Scene, rng: random.Random) -> Slots:
    """Draws a shape that the scene holds, and where its things are."""
    shape = rng.choice(scene.things).shape
    cells = [thing.cell for thing in scene.things if thing.shape == shape]
    return {"shape": shape, **_fill_places(cells)}


def draw_absent_shape(scene: Scene, rng: random.Random) -> Slots | None:
    """Draws a shape that the scene does not hold."""
    absent = [shape for shape in SHAPES if all(thing.shape != shape for thing in scene.things)]
    return {"shape": rng.choice(absent), **fill_count(0)} if absent else None


def draw_present_quality(scene: Scene, rng: random.Random) -> Slots:
    """Draws a colour or size that the scene holds, and where its things are."""
    present = [quality for thing in scene.things for quality in (thing.colour, thing.size)]
    quality = rng.choice(present)
    cells = [thing.cell for thing in scene.things if quality in (thing.colour, thing.size)]
    return {"quality": quality, **_fill_places(cells)}


def draw_absent_quality(scene: Scene, rng: random.Random) -> Slots | None:
    """Draws a colour or size that the scene does not hold."""
    present = {quality for thing in scene.things for quality in (thing.colour, thing.size)}
    absent = [quality for quality in QUALITIES if quality not in present]
    return {"quality": rng.choice(absent), **fill_count(0)} if absent else None


def _fill_places(cells: list[str]) -> Slots:
    return {"places": _join_phrases([f"the {cell}" for cell in cells]), **fill_count(len(cells))}


def pair_drawer(*, holds: bool) -> SlotDrawer:
    """Makes a drawer of two things, and of a relation that holds between them or does not."""

    def draw_slots(scene: Scene, rng: random.Random) -> Slots | None:
        candidates = _uniquely_named_things(scene)
        if len(candidates) < 2:
            return None
        first, second = rng.sample(candidates, 2)
        relations = [
            relation
            for relation in RELATIONS
            if relation_holds(relation, first.cell, second.cell) == holds
        ]
        return {
            "name": first.name,
            "cell": first.cell,
            "relation": rng.choice(relations),
            "second_name": second.name,
            "second_cell": second.cell,
        }

    return draw_slots


def _uniquely_named_things(scene: Scene) -> list[Thing]:
    names = [thing.name for thing in scene.things]
    return [thing for thing in scene.things if names.count(thing.name) == 1]


def draw_present_name(scene: Scene, rng: random.Random) -> Slots:
    """Draws the name of a thing."""
    return {"name": rng.choice(scene.things).name}


def draw_absent_name(scene: Scene, rng: random.Random) -> Slots:
    """Draws a name that no thing has, but that shares a word with one."""
    present = {thing.name for thing in scene.things}
    words = {word for name in present for word in name.split()}
    similar = [name for name in NAMES if name not in present and words & set(name.split())]
    return {"name": rng.choice(similar)}
