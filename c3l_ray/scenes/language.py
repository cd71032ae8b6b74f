"""The language of scenes: forms of question and answer, and true turns drawn from them.

A form is a question and an answer with slots in braces. Training draws true words for the slots
from a scene; `truth` reads the words of any turn back into slots and checks them.
"""

import random
from dataclasses import dataclass

from c3l_ray.scenes.draw import CELLS, Scene
from c3l_ray.scenes.slots import (
    SlotDrawer,
    count_things,
    draw_absent_name,
    draw_absent_quality,
    draw_absent_shape,
    draw_any_cell,
    draw_occupied_cell,
    draw_present_name,
    draw_present_quality,
    draw_present_shape,
    draw_unique_name,
    draw_unique_shape,
    fill_count,
    pair_drawer,
)

MAX_DESCRIBED_THINGS = 5


@dataclass(frozen=True, kw_only=True)
class Form:
    """A question and one way to answer it, or one sentence of an answer.

    Attributes:
        kind: of turn, one of methods.c3l.KINDS.
        question: with slots; a slot that the answer has too holds the same words in both.
        answer: with slots; one sentence of several where the kind is detail.
        draw_slots: draws true words for the slots.
    """

    kind: str
    question: str
    answer: str
    draw_slots: SlotDrawer


def draw_turn(scene: Scene, kind: str, rng: random.Random) -> tuple[str, str]:
    """Draws a question of this kind that fits the scene, and its true answer."""
    if kind == "detail":
        return rng.choice(DETAIL_QUESTIONS), describe_scene(scene)
    while True:
        form = rng.choice([form for form in FORMS if form.kind == kind])
        slots = form.draw_slots(scene, rng)
        if slots is not None:
            return form.question.format(**slots), form.answer.format(**slots)


def describe_scene(scene: Scene) -> str:
    """Describes a scene in three to five sentences.

    Each of the first five things has one. A scene of one or two things begins with their number and
    ends with cells that hold nothing.
    """
    sentences = [
        CELL_SENTENCE.format(cell=thing.cell, thing=f"a {thing.full_name}")
        for thing in scene.things[:MAX_DESCRIBED_THINGS]
    ]
    if len(sentences) < 3:
        sentences.insert(0, COUNT_SENTENCE.format(**fill_count(len(scene.things))))
    occupied_cells = {thing.cell for thing in scene.things}
    empty_cells = [cell for cell in CELLS if cell not in occupied_cells]
    while len(sentences) < 3:
        sentences.append(CELL_SENTENCE.format(cell=empty_cells.pop(0), thing="nothing"))
    return " ".join(sentences)


PAIR_CLAUSE = "The {name} is at the {cell} and the {second_name} is at the {second_cell}"
RELATION_QUESTION = "Is the {name} {relation} the {second_name}?"
CELL_SENTENCE = "There is {thing} at the {cell}."
COUNT_SENTENCE = "There {be} {count} thing{s}."
DETAIL_QUESTIONS = (
    "What does the image show?",
    "Can you describe the image in detail?",
    "What can be seen in the picture?",
)
_FORMS_BY_KIND: dict[str, list[tuple[str, str, SlotDrawer]]] = {
    "dialogue": [
        ("What colour is the {shape}?", "The {shape} is {colour}.", draw_unique_shape),
        ("How large is the {shape}?", "The {shape} is {size}.", draw_unique_shape),
        (
            "What colour is the thing at the {cell}?",
            "The thing at the {cell} is {colour}.",
            draw_occupied_cell,
        ),
        ("Where is the {name}?", "The {name} is at the {cell}.", draw_unique_name),
        ("What is at the {cell}?", CELL_SENTENCE, draw_any_cell),
    ],
    "detail": [
        (question, sentence, draw_slots)
        for question in DETAIL_QUESTIONS
        for sentence, draw_slots in (
            (CELL_SENTENCE, draw_any_cell),
            (COUNT_SENTENCE, count_things),
        )
    ],
    "reasoning": [
        (
            "How many things are there, and what are they?",
            "There {be} {list}, which makes {count} thing{s}.",
            count_things,
        ),
        (
            "How many {shape}s are there?",
            "The {shape}{s} {be} at {places}, which makes {count}.",
            draw_present_shape,
        ),
        ("How many {shape}s are there?", "There {be} {count} {shape}{s}.", draw_absent_shape),
        (
            "How many {quality} things are there?",
            "The {quality} thing{s} {be} at {places}, which makes {count}.",
            draw_present_quality,
        ),
        (
            "How many {quality} things are there?",
            "There {be} {count} {quality} thing{s}.",
            draw_absent_quality,
        ),
        (RELATION_QUESTION, f"{PAIR_CLAUSE}, so yes.", pair_drawer(holds=True)),
        (RELATION_QUESTION, f"{PAIR_CLAUSE}, so no.", pair_drawer(holds=False)),
    ],
    "short": [
        ("In a word, what colour is the {shape}?", "{colour}", draw_unique_shape),
        ("In a word, what size is the {shape}?", "{size}", draw_unique_shape),
        ("In a word, how many things are there?", "{count}", count_things),
        ("In short, where is the {name}?", "{cell}", draw_unique_name),
        ("In short, what is at the {cell}?", "{thing}", draw_any_cell),
    ],
    "yes_no": [
        ("Is there a {name}?", "Yes, there is a {name}.", draw_present_name),
        ("Is there a {name}?", "No, there is no {name}.", draw_absent_name),
        ("Is the {shape} {colour}?", "Yes, the {shape} is {colour}.", draw_unique_shape),
        ("Is the {shape} {wrong_colour}?", "No, the {shape} is {colour}.", draw_unique_shape),
        ("Is the {shape} {size}?", "Yes, the {shape} is {size}.", draw_unique_shape),
        ("Is the {shape} {wrong_size}?", "No, the {shape} is {size}.", draw_unique_shape),
    ],
}
FORMS = tuple(
    Form(kind=kind, question=question, answer=answer, draw_slots=draw_slots)
    for kind, forms in _FORMS_BY_KIND.items()
    for question, answer, draw_slots in forms
)
