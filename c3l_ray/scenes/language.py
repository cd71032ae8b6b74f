"""What can be asked and said about a scene: the forms of its turns, and true turns drawn from them.

A form is a question and an answer with slots in braces. Training draws true slots from a scene;
`truth` reads the slots of any turn back and checks them.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from c3l_ray.scenes.draw import CELLS, COLOURS, SHAPES, Scene, Thing

NUMBERS = ("no", "one", "two", "three", "four")
RELATIONS = ("above", "below", "left of", "right of")
NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
SENTENCE = "There is {thing} at the {cell}."

Slots = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A question and one way to answer it.

    Attributes:
        kind: the kind of turn that it belongs to, one of methods.c3l.KINDS.
        question: with slots; those it shares with the answer hold the same words in both.
        answer: with slots; a form of the kind detail repeats it, sentence by sentence.
        slots: true words for the slots in a scene, or None where the form does not fit it.
    """

    kind: str
    question: str
    answer: str
    slots: Callable[[Scene, random.Random], Slots | None]


def article(name: str) -> str:
    return "an" if name[0] in "aeiou" else "a"


def related(relation: str, cell: str, other_cell: str) -> bool:
    """Whether a thing in `cell` is above, below, left of or right of one in `other_cell`."""
    row, column = divmod(CELLS.index(cell), 2)
    other_row, other_column = divmod(CELLS.index(other_cell), 2)
    return {
        "above": row < other_row,
        "below": row > other_row,
        "left of": column < other_column,
        "right of": column > other_column,
    }[relation]


def draw_turn(scene: Scene, kind: str, rng: random.Random) -> tuple[str, str]:
    """A question of this kind that fits the scene, and its true answer."""
    if kind == "detail":
        form = rng.choice([form for form in FORMS if form.kind == kind])
        return form.question, describe(scene)
    while True:
        form = rng.choice([form for form in FORMS if form.kind == kind])
        slots = form.slots(scene, rng)
        if slots is not None:
            return form.question.format(**slots), form.answer.format(**slots)


def describe(scene: Scene) -> str:
    """The scene in full, a sentence a thing."""
    return " ".join(
        SENTENCE.format(thing=_with_article(thing), cell=thing.cell) for thing in scene.things
    )


def _with_article(thing: Thing) -> str:
    return f"{article(thing.name)} {thing.name}"


def listing(scene: Scene) -> str:
    """The things of a scene as "a red circle, a blue star and a green square"."""
    names = [_with_article(thing) for thing in scene.things]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _only_of_its_shape(scene: Scene, rng: random.Random) -> Slots | None:
    shapes = [thing.shape for thing in scene.things]
    single = [thing for thing in scene.things if shapes.count(thing.shape) == 1]
    if not single:
        return None
    thing = rng.choice(single)
    wrong = rng.choice([colour for colour in COLOURS if colour != thing.colour])
    return {"shape": thing.shape, "colour": thing.colour, "wrong": wrong}


def _only_of_its_name(scene: Scene, rng: random.Random) -> Slots | None:
    names = [thing.name for thing in scene.things]
    single = [thing for thing in scene.things if names.count(thing.name) == 1]
    if not single:
        return None
    thing = rng.choice(single)
    return {"name": thing.name, "cell": thing.cell}


def _what_is_there(scene: Scene, rng: random.Random) -> Slots:
    cell = rng.choice(CELLS)
    inside = [thing for thing in scene.things if thing.cell == cell]
    return {"cell": cell, "thing": _with_article(inside[0]) if inside else "nothing"}


def _count_all(scene: Scene, _: random.Random) -> Slots:
    count = len(scene.things)
    be, s = ("is", "") if count == 1 else ("are", "s")
    return {"be": be, "count": NUMBERS[count], "s": s, "list": listing(scene)}


def _count_shape(scene: Scene, rng: random.Random) -> Slots:
    shape = rng.choice((*SHAPES, *(thing.shape for thing in scene.things)))
    count = sum(thing.shape == shape for thing in scene.things)
    be, s = ("is", "") if count == 1 else ("are", "s")
    return {"shape": shape, "be": be, "count": NUMBERS[count], "s": s}


def _pair(holds: bool) -> Callable[[Scene, random.Random], Slots | None]:
    def slots(scene: Scene, rng: random.Random) -> Slots | None:
        if len({thing.name for thing in scene.things}) != len(scene.things):
            return None
        if len(scene.things) < 2:
            return None
        thing, other = rng.sample(scene.things, 2)
        fitting = [r for r in RELATIONS if related(r, thing.cell, other.cell) == holds]
        return {
            "name": thing.name,
            "cell": thing.cell,
            "relation": rng.choice(fitting),
            "other": other.name,
            "other_cell": other.cell,
        }

    return slots


def _present(scene: Scene, rng: random.Random) -> Slots:
    name = rng.choice(scene.things).name
    return {"a": article(name), "name": name}


def _absent(scene: Scene, rng: random.Random) -> Slots:
    present = {thing.name for thing in scene.things}
    near = [
        n for n in NAMES if n not in present and set(n.split()) & set(" ".join(present).split())
    ]
    name = rng.choice(near)
    return {"a": article(name), "name": name}


PLACES = "the {name} is at the {cell} and the {other} is at the {other_cell}."
RELATION = "Is the {name} {relation} the {other}?"

FORMS = (
    Form(
        kind="dialogue",
        question="What colour is the {shape}?",
        answer="The {shape} is {colour}.",
        slots=_only_of_its_shape,
    ),
    Form(
        kind="dialogue",
        question="Where is the {name}?",
        answer="The {name} is at the {cell}.",
        slots=_only_of_its_name,
    ),
    Form(
        kind="dialogue",
        question="What is at the {cell}?",
        answer=SENTENCE,
        slots=_what_is_there,
    ),
    *(
        Form(kind="detail", question=question, answer=SENTENCE, slots=_what_is_there)
        for question in (
            "What does the image show?",
            "Can you describe the image in detail?",
            "What can be seen in the picture?",
        )
    ),
    Form(
        kind="reasoning",
        question="How many things are there, and what are they?",
        answer="There {be} {count} thing{s}: {list}.",
        slots=_count_all,
    ),
    Form(
        kind="reasoning",
        question="How many {shape}s are there?",
        answer="There {be} {count} {shape}{s}.",
        slots=_count_shape,
    ),
    Form(kind="reasoning", question=RELATION, answer=f"Yes, {PLACES}", slots=_pair(True)),
    Form(kind="reasoning", question=RELATION, answer=f"No, {PLACES}", slots=_pair(False)),
    Form(
        kind="short",
        question="In a word, what colour is the {shape}?",
        answer="{colour}",
        slots=_only_of_its_shape,
    ),
    Form(
        kind="short",
        question="In a word, how many things are there?",
        answer="{count}",
        slots=_count_all,
    ),
    Form(
        kind="short",
        question="In short, where is the {name}?",
        answer="{cell}",
        slots=_only_of_its_name,
    ),
    Form(
        kind="short",
        question="In short, what is at the {cell}?",
        answer="{thing}",
        slots=_what_is_there,
    ),
    Form(
        kind="yes_no",
        question="Is there {a} {name}?",
        answer="Yes, there is {a} {name}.",
        slots=_present,
    ),
    Form(
        kind="yes_no",
        question="Is there {a} {name}?",
        answer="No, there is no {name}.",
        slots=_absent,
    ),
    Form(
        kind="yes_no",
        question="Is the {shape} {colour}?",
        answer="Yes, the {shape} is {colour}.",
        slots=_only_of_its_shape,
    ),
    Form(
        kind="yes_no",
        question="Is the {shape} {wrong}?",
        answer="No, the {shape} is {colour}.",
        slots=_only_of_its_shape,
    ),
)
