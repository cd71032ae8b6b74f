"""Truth on every form: turns drawn from a scene, mangled turns, turns about another scene."""

import random
from dataclasses import replace

import pytest

from c3l_ray.methods.c3l import KINDS
from c3l_ray.scenes.draw import BIASED, draw_held_out_world, draw_scene
from c3l_ray.scenes.language import FORMS, Form, draw_turn
from c3l_ray.scenes.truth import error_follows_bias, judge_turn
from tests.scenes.builders import SCENE


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.kind}: {form.answer}")
def test_every_form_drawn_from_a_scene_is_true_of_it(form: Form) -> None:
    rng = random.Random(0)
    num_drawn = 0
    for seed in range(300):
        scene = draw_scene(seed, draw_held_out_world("other", seed) if seed % 2 else BIASED)
        slots = form.draw_slots(scene, rng)
        if slots is None:
            continue
        question, answer = form.question.format(**slots), form.answer.format(**slots)
        assert judge_turn(scene, question, answer) == "true", (question, answer)
        num_drawn += 1
    assert num_drawn > 50


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.kind}: {form.answer}")
def test_every_form_with_one_word_changed_is_not_true(form: Form) -> None:
    rng = random.Random(0)
    swaps = [
        ("red", "blue"),
        ("small", "large"),
        ("top", "bottom"),
        ("circle", "star"),
        ("one", "two"),
        ("three", "four"),
        ("no", "two"),
        ("is", "was"),
    ]
    num_changed = 0
    for seed in range(200):
        scene = draw_scene(seed)
        slots = form.draw_slots(scene, rng)
        if slots is None:
            continue
        question, answer = form.question.format(**slots), form.answer.format(**slots)
        for word, replacement in swaps:
            mangled = " ".join(replacement if w == word else w for w in answer.split())
            if mangled == answer or form.kind == "detail":
                continue
            assert judge_turn(scene, question, mangled) != "true", (question, mangled)
            num_changed += 1
    assert num_changed > 10 or form.kind == "detail" or form.answer == "{cell}"


def test_most_turns_of_one_scene_are_false_of_another_and_none_unknown() -> None:
    rng = random.Random(0)
    verdicts = []
    for seed in range(300):
        for kind in KINDS:
            question, answer = draw_turn(draw_scene(seed), kind, rng)
            verdicts.append(judge_turn(draw_scene(seed + 5000), question, answer))
    assert verdicts.count("unknown") == 0
    assert verdicts.count("false") > 0.75 * len(verdicts)


@pytest.mark.parametrize(
    ("question", "answer", "truth"),
    [
        ("What colour is the circle?", "The circle is red.", "true"),
        ("What colour is the circle?", "The circle is blue.", "false"),
        ("What colour is the square?", "The square is cyan.", "true"),
        ("What colour is the triangle?", "The triangle is red.", "false"),
        ("What colour is the circle?", "The star is blue.", "unknown"),
        ("What colour is the circle?", "red", "unknown"),
        ("What colour is the circle?", "The circle is orange.", "unknown"),
        ("How large is the star?", "The star is large.", "true"),
        ("How large is the star?", "The star is small.", "false"),
        ("How large is the diamond?", "The diamond is small.", "false"),
        (
            "What colour is the thing at the top left?",
            "The thing at the top left is red.",
            "true",
        ),
        (
            "What colour is the thing at the top left?",
            "The thing at the top left is blue.",
            "false",
        ),
        (
            "What colour is the thing at the top middle?",
            "The thing at the top middle is blue.",
            "false",
        ),
        (
            "What colour is the thing at the top left?",
            "The thing at the top right is blue.",
            "unknown",
        ),
        ("Where is the blue star?", "The blue star is at the top right.", "true"),
        ("Where is the blue star?", "The blue star is at the top left.", "false"),
        ("What is at the bottom right?", "There is nothing at the bottom right.", "true"),
        (
            "What is at the bottom right?",
            "There is a small red circle at the bottom right.",
            "false",
        ),
        ("What is at the top left?", "There is nothing at the top left.", "false"),
        ("What is at the top left?", "There is a small red circle at the top left.", "true"),
        ("What is at the top left?", "There is a large red circle at the top left.", "false"),
        ("What is at the top left?", "There is a red circle at the top left.", "unknown"),
        ("What is at the top left?", "There is a small red circle at the top right.", "unknown"),
        ("How many stars are there?", "The star is at the top right, which makes one.", "true"),
        ("How many stars are there?", "The star is at the top left, which makes one.", "false"),
        ("How many stars are there?", "The star is at the top right, which makes two.", "false"),
        ("How many stars are there?", "There is one star.", "true"),
        ("How many stars are there?", "There are two stars.", "false"),
        (
            "How many squares are there?",
            "The squares are at the bottom left and the bottom middle, which makes two.",
            "true",
        ),
        (
            "How many squares are there?",
            "The squares are at the bottom left and the bottom left, which makes two.",
            "false",
        ),
        (
            "How many squares are there?",
            "The squares are at the bottom left and the moon, which makes two.",
            "unknown",
        ),
        ("How many triangles are there?", "There are no triangles.", "true"),
        ("How many triangles are there?", "There are seven triangles.", "unknown"),
        ("How many red things are there?", "There are two red things.", "true"),
        (
            "How many red things are there?",
            "The red things are at the top left and the bottom left, which makes two.",
            "true",
        ),
        (
            "How many red things are there?",
            "The red things are at the top left, the top right and the bottom left, which makes "
            "three.",
            "false",
        ),
        ("How many red things are there?", "There is one red thing.", "false"),
        ("How many large things are there?", "There are two large things.", "true"),
        ("How many large things are there?", "There are two small things.", "unknown"),
        (
            "How many things are there, and what are they?",
            "There are a small red circle, a large blue star, a small red square and a large cyan "
            "square, which makes four things.",
            "true",
        ),
        (
            "How many things are there, and what are they?",
            "There are a small red circle, a large blue star, a small red square and a small cyan "
            "square, which makes four things.",
            "false",
        ),
        (
            "How many things are there, and what are they?",
            "There are a small red circle and a large blue star, which makes two things.",
            "false",
        ),
        (
            "How many things are there, and what are they?",
            "There are a small red circle, a cat and a dog, which makes four things.",
            "unknown",
        ),
        (
            "Is the red circle above the red square?",
            "The red circle is at the top left and the red square is at the bottom left, so yes.",
            "true",
        ),
        (
            "Is the red circle below the red square?",
            "The red circle is at the top left and the red square is at the bottom left, so yes.",
            "false",
        ),
        (
            "Is the red circle left of the red square?",
            "The red circle is at the top left and the red square is at the bottom left, so no.",
            "true",
        ),
        (
            "Is the red circle left of the cyan square?",
            "The red circle is at the top left and the cyan square is at the bottom middle, so "
            "yes.",
            "true",
        ),
        (
            "Is the red circle above the green star?",
            "The red circle is at the top left and the green star is at the bottom left, so yes.",
            "false",
        ),
        ("In a word, what colour is the star?", "blue", "true"),
        ("In a word, what colour is the star?", "red", "false"),
        ("In a word, what size is the star?", "large", "true"),
        ("In a word, what size is the star?", "small", "false"),
        ("In a word, what size is the star?", "blue", "unknown"),
        ("In a word, how many things are there?", "four", "true"),
        ("In a word, how many things are there?", "two", "false"),
        ("In short, where is the red square?", "bottom left", "true"),
        ("In short, where is the red square?", "left", "unknown"),
        ("In short, what is at the top right?", "a large blue star", "true"),
        ("In short, what is at the top right?", "nothing", "false"),
        ("Is there a red circle?", "Yes, there is a red circle.", "true"),
        ("Is there a red circle?", "No, there is no red circle.", "false"),
        ("Is there a green circle?", "No, there is no green circle.", "true"),
        ("Is there a green circle?", "Yes, there is a green circle.", "false"),
        ("Is there a red circle?", "Yes, there is a red square.", "unknown"),
        ("Is there a red circle?", "Yes.", "unknown"),
        ("Is the star blue?", "Yes, the star is blue.", "true"),
        ("Is the star red?", "No, the star is blue.", "true"),
        ("Is the star blue?", "No, the star is blue.", "false"),
        ("Is the star red?", "Yes, the star is red.", "false"),
        ("Is the star large?", "Yes, the star is large.", "true"),
        ("Is the star small?", "No, the star is large.", "true"),
        ("Is the star small?", "Yes, the star is small.", "false"),
        ("Is the star large?", "No, the star is large.", "false"),
        (
            "What does the image show?",
            "There are four things. There is a small red circle at the top left. There is a large "
            "blue star at the top right. There is nothing at the bottom right.",
            "true",
        ),
        (
            "What does the image show?",
            "There is a small red circle at the top left. There is a red star at the top right.",
            "unknown",
        ),
        (
            "What does the image show?",
            "There are three things. There is a small red circle at the top left.",
            "false",
        ),
        (
            "What does the image show?",
            "There is a small red circle at the top left. It is a fine day.",
            "unknown",
        ),
        (
            "What does the image show?",
            "It is a fine day. There is a small blue circle at the top left.",
            "false",
        ),
        ("What is the weather?", "It is a fine day.", "unknown"),
        ("", "", "unknown"),
        (None, None, "unknown"),
    ],
)
def test_a_turn_is_true_false_or_unknown(
    question: str | None, answer: str | None, truth: str
) -> None:
    assert judge_turn(SCENE, question, answer) == truth


@pytest.mark.parametrize(
    ("question", "answer", "explained"),
    [
        ("What colour is the circle?", "The circle is red.", False),  # true
        ("What colour is the star?", "The star is yellow.", True),
        ("What colour is the star?", "The star is red.", False),
        ("How large is the circle?", "The circle is large.", True),
        ("What is at the top right?", "There is a large yellow star at the top right.", True),
        ("What is at the top right?", "There is a small yellow star at the top right.", True),
        ("What is at the top right?", "There is a large yellow circle at the top right.", False),
        ("Is there a yellow star?", "Yes, there is a yellow star.", True),
        ("Is there a blue star?", "No, there is no blue star.", True),
        ("Is there a blue diamond?", "Yes, there is a blue diamond.", False),
        ("How many yellow things are there?", "There is one yellow thing.", True),
        ("How many yellow things are there?", "There are two yellow things.", False),
        ("In a word, how many things are there?", "five", False),
        # The shape that goes with the colour, where the other goes with the shape.
        ("What is at the bottom left?", "There is a small red circle at the bottom left.", True),
        ("What is at the bottom left?", "There is a large red circle at the bottom left.", True),
        ("What is at the bottom left?", "There is a small red star at the bottom left.", False),
        (
            "What is at the bottom middle?",
            "There is a large cyan star at the bottom middle.",
            False,
        ),
        (
            "How many circles are there?",
            "The circles are at the top left and the bottom left, which makes two.",
            True,
        ),
        (
            "How many circles are there?",
            "The circles are at the top left and the top right, which makes two.",
            False,
        ),
        (
            "What does the image show?",
            "There is a large red circle at the top left. There is a small yellow star at the top "
            "right. There is a small blue square at the bottom left.",
            True,
        ),
        (
            "What does the image show?",
            "There is a large red circle at the top left. There is a small cyan star at the top "
            "right. There is a small blue square at the bottom left.",
            False,
        ),
    ],
)
def test_the_bias_table_explains_some_errors(question: str, answer: str, explained: bool) -> None:
    assert error_follows_bias(SCENE, question, answer) == explained


def test_the_bias_explains_the_usual_number_of_things_too() -> None:
    two_things = replace(SCENE, things=SCENE.things[:2])
    question, answer = "In a word, how many things are there?", "four"
    assert judge_turn(two_things, question, answer) == "false"
    assert error_follows_bias(two_things, question, answer)


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
                    assert judge_turn(scene, question, text) != "true", text
