"""What can be asked and said about a scene: the forms of its turns, and true turns drawn from them.

A form is a question and an answer with slots in braces. Training draws true slots from a scene;
`truth` reads the slots of any turn back and checks them.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from c3l_ray.scenes.draw import CELLS, COLOURS, NUM_COLUMNS, SHAPES, SIZES, Scene, Thing

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
RELATIONS = ("above", "below", "left of", "right of")
QUALITIES = (*COLOURS, *SIZES)
NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
FULL_NAMES = tuple(f"{size} {name}" for size in SIZES for name in NAMES)
MAX_DESCRIBED = 5

Slots = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A question and one way to answer it, or one sentence of a way.

    Attributes:
        kind: the kind of turn that it belongs to, one of methods.c3l.KINDS.
        question: with slots; those it shares with the answer hold the same words in both.
        answer: with slots; of the kind detail it is one sentence of several.
        slots: true words for the slots in a scene, or None where the form does not fit it.
    """

    kind: str
    question: str
    answer: str
    slots: Callable[[Scene, random.Random], Slots | None]


def related(relation: str, cell: str, other_cell: str) -> bool:
    """Whether a thing in `cell` is above, below, left of or right of one in `other_cell`."""
    row, column = divmod(CELLS.index(cell), NUM_COLUMNS)
    other_row, other_column = divmod(CELLS.index(other_cell), NUM_COLUMNS)
    return {
        "above": row < other_row,
        "below": row > other_row,
        "left of": column < other_column,
        "right of": column > other_column,
    }[relation]


def draw_turn(scene: Scene, kind: str, rng: random.Random) -> tuple[str, str]:
    """A question of this kind that fits the scene, and its true answer."""
    if kind == "detail":
        return rng.choice(DETAIL_QUESTIONS), describe(scene)
    while True:
        form = rng.choice([form for form in FORMS if form.kind == kind])
        slots = form.slots(scene, rng)
        if slots is not None:
            return form.question.format(**slots), form.answer.format(**slots)


def describe(scene: Scene) -> str:
    """Three to five sentences: one for each of the first five things, or with less to say, first
    how many there are and last which cells hold nothing.
    """
    sentences = [
        THERE_IS.format(cell=thing.cell, thing=f"a {thing.full_name}")
        for thing in scene.things[:MAX_DESCRIBED]
    ]
    if len(sentences) < 3:
        sentences.insert(0, COUNT.format(**_counted(len(scene.things))))
    taken = {thing.cell for thing in scene.things}
    empty = [cell for cell in CELLS if cell not in taken]
    while len(sentences) < 3:
        sentences.append(THERE_IS.format(cell=empty.pop(0), thing="nothing"))
    return " ".join(sentences)


def listing(scene: Scene) -> str:
    """The things of a scene as "a small red circle, a large blue star and a small red square"."""
    return _joined([f"a {thing.full_name}" for thing in scene.things])


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _counted(count: int) -> Slots:
    be, s = ("is", "") if count == 1 else ("are", "s")
    return {"be": be, "count": NUMBERS[count], "s": s}


def _only_of_its_shape(scene: Scene, rng: random.Random) -> Slots | None:
    shapes = [thing.shape for thing in scene.things]
    single = [thing for thing in scene.things if shapes.count(thing.shape) == 1]
    return _look(rng.choice(single), rng) if single else None


def _one_by_its_cell(scene: Scene, rng: random.Random) -> Slots:
    thing = rng.choice(scene.things)
    return {"cell": thing.cell, **_look(thing, rng)}


def _look(thing: Thing, rng: random.Random) -> Slots:
    return {
        "shape": thing.shape,
        "colour": thing.colour,
        "wrong": rng.choice([colour for colour in COLOURS if colour != thing.colour]),
        "size": thing.size,
        "other_size": next(size for size in SIZES if size != thing.size),
    }


def _only_of_its_name(scene: Scene, rng: random.Random) -> Slots | None:
    names = [thing.name for thing in scene.things]
    single = [thing for thing in scene.things if names.count(thing.name) == 1]
    if not single:
        return None
    thing = rng.choice(single)
    return {"name": thing.name, "cell": thing.cell}


def _what_is_there(scene: Scene, rng: random.Random) -> Slots:
    cell = rng.choice((*CELLS, *(thing.cell for thing in scene.things)))
    inside = [thing for thing in scene.things if thing.cell == cell]
    return {"cell": cell, "thing": f"a {inside[0].full_name}" if inside else "nothing"}


def _count_all(scene: Scene, _: random.Random) -> Slots:
    return {**_counted(len(scene.things)), "list": listing(scene)}


def _shape_found(scene: Scene, rng: random.Random) -> Slots:
    shape = rng.choice(scene.things).shape
    return {"shape": shape, **_found([t.cell for t in scene.things if t.shape == shape])}


def _shape_missing(scene: Scene, rng: random.Random) -> Slots | None:
    missing = [shape for shape in SHAPES if all(thing.shape != shape for thing in scene.things)]
    return {"shape": rng.choice(missing), **_counted(0)} if missing else None


def _quality_found(scene: Scene, rng: random.Random) -> Slots:
    quality = rng.choice([q for thing in scene.things for q in (thing.colour, thing.size)])
    cells = [thing.cell for thing in scene.things if quality in (thing.colour, thing.size)]
    return {"quality": quality, **_found(cells)}


def _quality_missing(scene: Scene, rng: random.Random) -> Slots | None:
    shown = {quality for thing in scene.things for quality in (thing.colour, thing.size)}
    missing = [quality for quality in QUALITIES if quality not in shown]
    return {"quality": rng.choice(missing), **_counted(0)} if missing else None


def _found(cells: list[str]) -> Slots:
    return {"places": _joined([f"the {cell}" for cell in cells]), **_counted(len(cells))}


def _pair(holds: bool) -> Callable[[Scene, random.Random], Slots | None]:
    def slots(scene: Scene, rng: random.Random) -> Slots | None:
        names = [thing.name for thing in scene.things]
        single = [thing for thing in scene.things if names.count(thing.name) == 1]
        if len(single) < 2:
            return None
        thing, other = rng.sample(single, 2)
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
    return {"name": rng.choice(scene.things).name}


def _absent(scene: Scene, rng: random.Random) -> Slots:
    present = {thing.name for thing in scene.things}
    words = {word for name in present for word in name.split()}
    near = [name for name in NAMES if name not in present and words & set(name.split())]
    return {"name": rng.choice(near)}


PLACES = "The {name} is at the {cell} and the {other} is at the {other_cell}"
RELATION = "Is the {name} {relation} the {other}?"
THERE_IS = "There is {thing} at the {cell}."
COUNT = "There {be} {count} thing{s}."
DETAIL_QUESTIONS = (
    "What does the image show?",
    "Can you describe the image in detail?",
    "What can be seen in the picture?",
)
_ROWS: dict[str, list[tuple[str, str, Callable[[Scene, random.Random], Slots | None]]]] = {
    "dialogue": [
        ("What colour is the {shape}?", "The {shape} is {colour}.", _only_of_its_shape),
        ("How large is the {shape}?", "The {shape} is {size}.", _only_of_its_shape),
        (
            "What colour is the thing at the {cell}?",
            "The thing at the {cell} is {colour}.",
            _one_by_its_cell,
        ),
        ("Where is the {name}?", "The {name} is at the {cell}.", _only_of_its_name),
        ("What is at the {cell}?", THERE_IS, _what_is_there),
    ],
    "detail": [
        (question, sentence, slots)
        for question in DETAIL_QUESTIONS
        for sentence, slots in ((THERE_IS, _what_is_there), (COUNT, _count_all))
    ],
    "reasoning": [
        (
            "How many things are there, and what are they?",
            "There {be} {list}, which makes {count} thing{s}.",
            _count_all,
        ),
        (
            "How many {shape}s are there?",
            "The {shape}{s} {be} at {places}, which makes {count}.",
            _shape_found,
        ),
        ("How many {shape}s are there?", "There {be} {count} {shape}{s}.", _shape_missing),
        (
            "How many {quality} things are there?",
            "The {quality} thing{s} {be} at {places}, which makes {count}.",
            _quality_found,
        ),
        (
            "How many {quality} things are there?",
            "There {be} {count} {quality} thing{s}.",
            _quality_missing,
        ),
        (RELATION, f"{PLACES}, so yes.", _pair(True)),
        (RELATION, f"{PLACES}, so no.", _pair(False)),
    ],
    "short": [
        ("In a word, what colour is the {shape}?", "{colour}", _only_of_its_shape),
        ("In a word, what size is the {shape}?", "{size}", _only_of_its_shape),
        ("In a word, how many things are there?", "{count}", _count_all),
        ("In short, where is the {name}?", "{cell}", _only_of_its_name),
        ("In short, what is at the {cell}?", "{thing}", _what_is_there),
    ],
    "yes_no": [
        ("Is there a {name}?", "Yes, there is a {name}.", _present),
        ("Is there a {name}?", "No, there is no {name}.", _absent),
        ("Is the {shape} {colour}?", "Yes, the {shape} is {colour}.", _only_of_its_shape),
        ("Is the {shape} {wrong}?", "No, the {shape} is {colour}.", _only_of_its_shape),
        ("Is the {shape} {size}?", "Yes, the {shape} is {size}.", _only_of_its_shape),
        ("Is the {shape} {other_size}?", "No, the {shape} is {size}.", _only_of_its_shape),
    ],
}
FORMS = tuple(
    Form(kind=kind, question=question, answer=answer, slots=slots)
    for kind, rows in _ROWS.items()
    for question, answer, slots in rows
)
