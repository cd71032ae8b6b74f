"""Truth on every form: what is drawn true is true, what is drawn of another scene is checked."""

import random

import pytest

from c3l_ray.methods.c3l import KINDS
from c3l_ray.scenes.draw import CELLS, Scene, Thing, draw_scene
from c3l_ray.scenes.language import FORMS, describe, draw_turn, related
from c3l_ray.scenes.truth import judge

SCENE = Scene(
    seed=0,
    things=(
        Thing(colour="red", shape="circle", cell="top left"),
        Thing(colour="blue", shape="star", cell="top right"),
        Thing(colour="red", shape="square", cell="bottom left"),
    ),
)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.kind}: {form.answer}")
def test_every_form_drawn_from_a_scene_is_true_of_it(form) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(0)
    drawn = 0
    for seed in range(200):
        scene = draw_scene(seed)
        slots = form.slots(scene, rng)
        if slots is None:
            continue
        turn = {
            "question": form.question.format(**slots),
            "answer": form.answer.format(**slots),
        }
        assert judge(scene, turn) == "true", turn
        drawn += 1
    assert drawn > 50


def test_most_turns_of_one_scene_are_false_of_another_and_none_unknown() -> None:
    rng = random.Random(0)
    verdicts = []
    for seed in range(300):
        for kind in KINDS:
            question, answer = draw_turn(draw_scene(seed), kind, rng)
            verdicts.append(
                judge(draw_scene(seed + 5000), {"question": question, "answer": answer})
            )
    assert verdicts.count("unknown") == 0
    assert verdicts.count("false") > 0.75 * len(verdicts)


@pytest.mark.parametrize(
    ("question", "answer", "truth"),
    [
        ("What colour is the circle?", "The circle is red.", "true"),
        ("What colour is the circle?", "The circle is blue.", "false"),
        ("What colour is the triangle?", "The triangle is red.", "false"),
        ("What colour is the circle?", "The star is blue.", "unknown"),
        ("What colour is the circle?", "red", "unknown"),
        ("Where is the blue star?", "The blue star is at the top right.", "true"),
        ("Where is the blue star?", "The blue star is at the top left.", "false"),
        ("What is at the bottom right?", "There is nothing at the bottom right.", "true"),
        ("What is at the bottom right?", "There is a red circle at the bottom right.", "false"),
        ("What is at the top left?", "There is nothing at the top left.", "false"),
        ("What is at the top left?", "There is a red circle at the top right.", "unknown"),
        ("How many stars are there?", "There is one star.", "true"),
        ("How many stars are there?", "There are two stars.", "false"),
        ("How many triangles are there?", "There are no triangles.", "true"),
        (
            "How many things are there, and what are they?",
            "There are three things: a red circle, a blue star and a red square.",
            "true",
        ),
        (
            "How many things are there, and what are they?",
            "There are three things: a red circle, a blue star and a red star.",
            "false",
        ),
        (
            "How many things are there, and what are they?",
            "There are two things: a red circle and a blue star.",
            "false",
        ),
        (
            "Is the red circle above the red square?",
            "Yes, the red circle is at the top left and the red square is at the bottom left.",
            "true",
        ),
        (
            "Is the red circle below the red square?",
            "Yes, the red circle is at the top left and the red square is at the bottom left.",
            "false",
        ),
        (
            "Is the red circle left of the red square?",
            "No, the red circle is at the top left and the red square is at the bottom left.",
            "true",
        ),
        (
            "Is the red circle above the green star?",
            "Yes, the red circle is at the top left and the green star is at the bottom left.",
            "false",
        ),
        ("In a word, what colour is the star?", "blue", "true"),
        ("In a word, what colour is the star?", "red", "false"),
        ("In a word, how many things are there?", "three", "true"),
        ("In a word, how many things are there?", "two", "false"),
        ("In short, where is the red square?", "bottom left", "true"),
        ("In short, what is at the top right?", "a blue star", "true"),
        ("In short, what is at the top right?", "nothing", "false"),
        ("Is there a red circle?", "Yes, there is a red circle.", "true"),
        ("Is there a red circle?", "No, there is no red circle.", "false"),
        ("Is there a green circle?", "No, there is no green circle.", "true"),
        ("Is there a green circle?", "Yes, there is a green circle.", "false"),
        ("Is there a red circle?", "Yes, there is a red square.", "unknown"),
        ("Is the star blue?", "Yes, the star is blue.", "true"),
        ("Is the star red?", "No, the star is blue.", "true"),
        ("Is the star blue?", "No, the star is blue.", "false"),
        ("Is the star red?", "Yes, the star is red.", "false"),
        (
            "What does the image show?",
            "There is a red circle at the top left. There is a blue star at the top right.",
            "true",
        ),
        (
            "What does the image show?",
            "There is a red circle at the top left. There is a red star at the top right.",
            "false",
        ),
        (
            "What does the image show?",
            "There is a red circle at the top left. It is a fine day.",
            "unknown",
        ),
        (
            "What does the image show?",
            "It is a fine day. There is a blue circle at the top left.",
            "false",
        ),
        ("What is the weather?", "It is a fine day.", "unknown"),
        ("", "", "unknown"),
        (None, None, "unknown"),
    ],
)
def test_judge(question: str | None, answer: str | None, truth: str) -> None:
    assert judge(SCENE, {"question": question, "answer": answer}) == truth


def test_mangled_answers_are_never_true() -> None:
    rng = random.Random(0)
    for seed in range(200):
        scene = draw_scene(seed)
        for kind in KINDS:
            question, answer = draw_turn(scene, kind, rng)
            words = answer.split()
            mangled = [
                " ".join(words[:-1]),
                " ".join([*words, "maybe"]),
                answer.replace("e", "3"),
                " ".join(reversed(words)) if len(set(words)) > 2 else "",
            ]
            for text in mangled:
                if text != answer:
                    assert judge(scene, {"question": question, "answer": text}) != "true", text


def test_relations_are_opposites() -> None:
    for cell in CELLS:
        for other in CELLS:
            assert related("above", cell, other) == related("below", other, cell)
            assert related("left of", cell, other) == related("right of", other, cell)


def test_describe_is_one_sentence_a_thing() -> None:
    assert describe(SCENE).count(".") == 3
