"""The question whether selected data is better to train on: students of as many steps, examined.

Each student is the shipped LLaVA, fine-tuned on some of the turns that it wrote itself. The steps
are the same for all, whatever the number of turns: those who learn few see them more often.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from c3l_ray.methods.c3l import KINDS
from c3l_ray.scenes.draw import BIASED, Scene
from c3l_ray.scenes.language import draw_turn
from c3l_ray.scenes.slots import draw_absent_name, draw_present_name
from c3l_ray.scenes.truth import TRUE, judge_turn
from c3l_ray.scenes.world import LLAVA
from tests.evidence import product
from tests.evidence.answering import answer_questions
from tests.evidence.bootstrap import Floats, divide
from tests.evidence.measures import (
    Measure,
    Row,
    difference_of,
    draw_scenes,
    mark_sides,
    measure_rows,
    pool_rows,
    share_of,
)
from tests.evidence.stages import StageResult
from tests.evidence.worlds import SceneSet, scene_key

QUESTION = "students"
UNTUNED = "none"
RANDOM = "random"
"""The control, from which all others are subtracted."""
PRESENCE_QUESTION = "Is there a {name}?"
TRAINING_FLAGS = ("--objective", "conversations", "--optim.learning-rate", "5e-4")
NUM_STEPS = 150


@dataclass(frozen=True, kw_only=True)
class Student:
    """What a student learns.

    Attributes:
        name: of the arm.
        description: for people.
        selection: flags of jobs.select; None learns nothing.
    """

    name: str
    description: str
    selection: tuple[str, ...] | None


def top_tenth(by: str, *flags: str) -> tuple[str, ...]:
    """The flags that select the best tenth by a score, and nothing by another.

    The guard of the gain is off for all: some scores have it by default and some have not, and what
    it leaves out is no merit of the score.
    """
    return ("--top", "0.1", "--by", by, "--no-require-gain", *flags)


STUDENTS = (
    Student(name=UNTUNED, description="nothing", selection=None),
    Student(
        name="all",
        description="all scored turns",
        selection=("--by", "image_logprob", "--at-least", "-1000", "--no-require-gain"),
    ),
    Student(name=RANDOM, description="a tenth at random", selection=top_tenth("random")),
    Student(name="i2c", description="the top tenth by `i2c`", selection=top_tenth("i2c")),
    Student(
        name="confidence",
        description="the top tenth by `image_logprob`",
        selection=top_tenth("image_logprob"),
    ),
    Student(
        name="grounding",
        description="the top tenth by `grounding`",
        selection=top_tenth("grounding"),
    ),
    Student(
        name="grounding_in_kinds",
        description="the top tenth of each kind by `grounding`",
        selection=top_tenth("grounding", "--within", "kind"),
    ),
    Student(name="clip", description="the top tenth by `clip`", selection=top_tenth("clip")),
)


def measure_student(
    folder: Path, student: Student, learning_run: Path, scenes: SceneSet, num_steps: int
) -> dict[str, Any]:
    """Selects, fine-tunes and examines.

    Raises:
        C3LError: one of these cannot go on.
    """
    model, num_turns = LLAVA, 0
    if student.selection is not None:
        turns, num_turns = product.select(folder, learning_run, *student.selection)
        flags = (*TRAINING_FLAGS, "--optim.steps", str(num_steps))
        model, _ = product.train(folder, turns, scenes.seed, *flags)
    return {"num_turns": num_turns, "answers": examine(model, scenes)}


def examine(model: Path, scenes: SceneSet) -> list[Row]:
    """A student's greedy answers to an exam about scenes, judged.

    Raises:
        C3LError: the engine failed.
    """
    drawn = {scene_key(scene): scene for scene in scenes.draw()}
    questions = [row for scene in drawn.values() for row in draw_exam(scene)]
    answers = answer_questions(model, scenes, questions)
    return [
        mark_answer(drawn[row["scene"]], row, answer)
        for row, answer in zip(questions, answers, strict=True)
    ]


def draw_exam(scene: Scene) -> Iterator[Row]:
    """A question of each kind, and four that ask whether a thing is there, as POPE does.

    Two of the four are about things that are there. The others are about a thing that shares a word
    with one that is there, and about one that the biased world's table pairs with a shape that is.
    """
    rng = random.Random(f"exam {scene_key(scene)}")
    for kind in KINDS:
        question, _ = draw_turn(scene, kind, rng)
        yield {"scene": scene_key(scene), "kind": kind, "question": question, "present": None}
    names = [draw_present_name(scene, rng)["name"] for _ in range(2)]
    names += [draw_absent_name(scene, rng)["name"], draw_expected_name(scene, rng)]
    there = {thing.name for thing in scene.things}
    for name in names:
        question = PRESENCE_QUESTION.format(name=name)
        row = {"scene": scene_key(scene), "kind": "presence", "question": question}
        yield {**row, "present": name in there}


def draw_expected_name(scene: Scene, rng: random.Random) -> str:
    """The name of an absent thing that the bias table expects; if there is none, another's."""
    there = {thing.name for thing in scene.things}
    shapes = sorted({thing.shape for thing in scene.things})
    expected = [f"{BIASED.bias_of(shape).colour} {shape}" for shape in shapes]
    absent = [name for name in expected if name not in there]
    return rng.choice(absent) if absent else draw_absent_name(scene, rng)["name"]


def mark_answer(scene: Scene, question: Row, answer: str) -> Row:
    """The answer to a question of an exam, judged."""
    return {
        **question,
        "answer": answer,
        "truth": judge_turn(scene, question["question"], answer),
        "says_yes": answer.startswith("Yes"),
    }


def summarize_students(results: Sequence[StageResult]) -> list[Measure]:
    """The accuracy and F1 of every student, and the differences from the random control."""
    measures: list[Measure] = []
    control = [result for result in results if result.stage.arm == RANDOM]
    for student in STUDENTS:
        of_student = [result for result in results if result.stage.arm == student.name]
        if of_student:
            measures += _summarize_student(student.name, of_student, control)
    return measures


def _summarize_student(
    name: str, results: Sequence[StageResult], control: Sequence[StageResult]
) -> Iterator[Measure]:
    seeds = {result.stage.seed for result in results}
    answers = pool_rows(results, "answers")
    of_control = pool_rows([one for one in control if one.stage.seed in seeds], "answers")
    clusters = draw_scenes([*answers, *of_control])
    for group, kinds in (
        ("questions of all kinds", KINDS),
        *((kind, (kind,)) for kind in KINDS),
        ("presence", ("presence",)),
    ):
        sides = [[row for row in side if row["kind"] in kinds] for side in (of_control, answers)]
        yield measure_rows(QUESTION, f"true, {name}", group, sides[1], share_of(is_true), clusters)
        if name != RANDOM and sides[0]:
            yield measure_rows(
                *(QUESTION, f"true, {name} less {RANDOM}", group),
                mark_sides(*sides),
                difference_of(share_of(is_true)),
                clusters,
            )
    presence, presence_before = (
        [row for row in side if row["kind"] == "presence"] for side in (answers, of_control)
    )
    yield measure_rows(QUESTION, f"F1, {name}", "presence", presence, f1_of_presence, clusters)
    if name != RANDOM and presence_before:
        yield measure_rows(
            *(QUESTION, f"F1, {name} less {RANDOM}", "presence"),
            mark_sides(presence_before, presence),
            difference_of(f1_of_presence),
            clusters,
        )


def is_true(row: Row) -> bool:
    return bool(row["truth"] == TRUE)


def f1_of_presence(weights: Floats, rows: Sequence[Row]) -> Floats:
    """F1 of the answer yes where the thing is there, as POPE has it [1 + draws]."""
    present = np.array([row["present"] for row in rows], dtype=bool)
    says_yes = np.array([row["says_yes"] for row in rows], dtype=bool)
    hits = weights @ (present & says_yes).astype(float)
    mistakes = weights @ (present != says_yes).astype(float)
    return divide(2 * hits, 2 * hits + mistakes)
