"""What stages read of runs, and what the measures make of it, on turns whose numbers are known."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes.draw import Scene, Thing, draw_scene
from c3l_ray.select_config import SelectConfig
from c3l_ray.train.training_config import TrainConfig
from tests.evaluation.builders import make_turn, write_run
from tests.evidence import product, student_stage
from tests.evidence.answering import count_covered_things, describe_turn
from tests.evidence.bootstrap import Interval
from tests.evidence.correction_stage import read_corrections, summarize_corrections
from tests.evidence.measures import Measure, Row
from tests.evidence.score_stage import read_judged_turns, summarize_scores
from tests.evidence.stages import Stage, StageResult
from tests.evidence.student_stage import (
    STUDENTS,
    Student,
    draw_exam,
    f1_of_presence,
    mark_answer,
)
from tests.evidence.tables import format_interval, list_differences
from tests.evidence.tuning_measures import summarize_tuning
from tests.evidence.tuning_stage import ARMS, judge_learning_run

SCENE = Scene(
    seed=7,
    things=(
        Thing(colour="blue", shape="circle", size="large", cell="top left"),
        Thing(colour="red", shape="star", size="small", cell="top right"),
    ),
)
QUESTION = "What colour is the circle?"


def make_result(question: str, arm: str, content: dict[str, Any], seed: int = 0) -> StageResult:
    stage = Stage(question=question, arm=arm, seed=seed, settings={}, run=None)
    return StageResult(stage=stage, seconds=1.0, commit="unknown", content=content)


def by_name(measures: list[Measure]) -> dict[tuple[str, str], Measure]:
    return {(measure.measure, measure.group): measure for measure in measures}


def make_scores(**values: float) -> dict[str, Any]:
    return {**dict.fromkeys(SCORE_NAMES), **values}


def make_alternative(answer: str, **values: float) -> dict[str, Any]:
    scores = make_scores(**values)
    return {"answer": answer, "num_samples": 2, "status": "ok", "scores": scores}


def write_answers_run(path: Path) -> None:
    """A run of one scene: a true turn, a false one whose error is the prior's, and a bad one."""
    right, wrong = "The circle is blue.", "The circle is red."
    alternatives = [
        make_alternative(right, visual_ifd=0.1, grounding=0.9),
        make_alternative(wrong, visual_ifd=0.2, grounding=0.1),
        make_alternative("The circle is green.", visual_ifd=0.05, grounding=0.2),
    ]
    common = {"kind": "dialogue", "question": QUESTION, "status": "ok"}
    turns = [
        make_turn(
            **common,
            answer=right,
            scores=make_scores(visual_ifd=0.1, grounding=0.9),
            alternatives=alternatives,
        ),
        make_turn(**common, answer=wrong, scores=make_scores(visual_ifd=0.3), alternatives=None),
        make_turn(**{**common, "status": "empty"}, answer="", scores=None),
    ]
    write_run(path, {"meta": SCENE.to_json(), "turns": turns})


def test_turns_and_alternatives_of_a_run_are_judged(tmp_path: Path) -> None:
    write_answers_run(tmp_path)
    right, wrong, unusable = read_judged_turns(tmp_path)
    assert right is not None and wrong is not None and unusable is None
    assert (right["truth"], wrong["truth"]) == ("true", "false")
    assert (right["is_prior"], wrong["is_prior"]) == (False, True)
    assert right["scene"] == "unbiased 7" and right["scores"] == {
        "visual_ifd": 0.1,
        "grounding": 0.9,
    }
    # Its own answer was sampled again, and counts once.
    truths = [answer["truth"] for answer in right["answers"]]
    assert truths == ["true", "false", "false"] and wrong["answers"] == []


def test_areas_are_over_turns_and_within_a_question_over_its_answers(tmp_path: Path) -> None:
    write_answers_run(tmp_path)
    turns = [row for row in read_judged_turns(tmp_path) if row is not None]
    other_scene = [{**row, "scene": "unbiased 8"} for row in turns]
    found = by_name(
        summarize_scores([make_result("scores", "turns", {"turns": turns + other_scene})])
    )
    assert found["area of visual_ifd", "unbiased, all turns"].interval.estimate == 1.0
    assert found["area of visual_ifd", "unbiased, errors of the prior"].interval.estimate == 1.0
    assert found["true", "unbiased, all turns"].interval.estimate == 0.5
    assert found["true of top 50% by visual_ifd", "unbiased, all turns"].interval.estimate == 1.0
    group = "unbiased, within question"
    assert found["area of visual_ifd", group].interval.estimate == 0.5  # lower is better
    assert found["area of grounding", group].interval.estimate == 1.0
    assert found["true of the best by visual_ifd", group].interval.estimate == 0.0
    assert found["true of the best by grounding", group].interval.estimate == 1.0
    assert found["true of a distinct answer at random", group].interval.estimate == pytest.approx(
        1 / 3
    )
    assert found["area of visual_ifd", "unbiased, all turns"].seeds == (0,)


def test_the_truth_stands_in_for_grounding_in_a_copy_of_a_run(tmp_path: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    write_answers_run(run)
    before = sorted(run.rglob("*.parquet"))[0].read_bytes()
    assert judge_learning_run(run, copy) == judge_learning_run(run, copy)
    right, wrong, _ = read_judged_turns(copy)
    assert right is not None and wrong is not None
    groundings = [answer["scores"]["grounding"] for answer in right["answers"]]
    assert groundings == [1, 0, 0]
    assert (right["scores"]["grounding"], wrong["scores"]["grounding"]) == (1, 0)
    assert sorted(run.rglob("*.parquet"))[0].read_bytes() == before
    assert (RunFolder.open(str(copy)).read_json("run.json") or {})["finished"]


def test_a_description_is_measured_by_what_it_covers() -> None:
    answer = (
        "There is a large blue circle at the top left. There is a small red star at the top middle."
    )
    turn = make_turn(
        kind="detail", question="What does the image show?", answer=answer, status="ok"
    )
    row = describe_turn(SCENE, {**turn})
    assert (row["covered"], row["things"], row["false_sentences"]) == (1, 2, 1)
    assert count_covered_things(SCENE, ["There is a large blue circle at the top right."]) == 0


def make_answers(truths: str, *, greedy: bool = False, readable: bool = True) -> list[Row]:
    """Answers to fixed questions, a scene each: t for true, f for false."""
    return [
        {
            "scene": f"unbiased {place}",
            "world": "unbiased",
            "kind": "dialogue",
            "greedy": greedy,
            "readable": readable,
            "truth": {"t": "true", "f": "false"}[letter],
        }
        for place, letter in enumerate(truths)
    ]


def make_own_turns(truths: str, status: str = "ok") -> list[Row]:
    return [
        {**row, "status": status, "question": QUESTION, "answer": "", "greedy": None}
        for row in make_answers(truths)
    ]


def test_an_arm_is_compared_with_the_untuned_model_on_the_same_scenes() -> None:
    untuned = {
        "own": make_own_turns("ttff"),
        "fixed": [*make_answers("tfff"), *make_answers("tftf", greedy=True)],
    }
    tuned = {
        "own": [*make_own_turns("tttf"), *make_own_turns("t", "unparsable")],
        "fixed": [*make_answers("ttff"), *make_answers("tfff", greedy=True, readable=False)],
    }
    results = [
        make_result("tuning", "none", untuned),
        make_result("tuning", "none", untuned, seed=1),
        make_result("tuning", "c3l_i2c", tuned),
        make_result("tuning", "answers_best", untuned),
        make_result("tuning", "answers_best", untuned, seed=1),
        make_result("tuning", "pairs_best", tuned),
    ]
    found = by_name(summarize_tuning(results))
    own, group = "unbiased, own turns", "unbiased, fixed questions, T 0.7"
    assert found["true, none", own].interval.estimate == 0.5
    assert found["true, none", own].seeds == (0, 1)
    # A turn that cannot be read is not true.
    assert found["true, c3l_i2c", own].interval.estimate == 0.6
    assert found["true, c3l_i2c less none", own].interval.estimate == pytest.approx(0.1)
    assert found["true, c3l_i2c less none", own].seeds == (0,)  # not of repetition 1
    assert found["readable, c3l_i2c", own].interval.estimate == 0.8
    assert found["true, c3l_i2c less none", group].interval.estimate == 0.25
    greedy = found["true, c3l_i2c", "unbiased, fixed questions, greedy"]
    assert greedy.interval.estimate == 0.0  # an answer that is cut is not true
    between = found["true, pairs_best less answers_best", group]
    assert between.interval.estimate == 0.25 and between.seeds == (0,)
    assert ("true, pairs_best less pairs_random", group) not in found
    assert json.dumps([measure.to_json() for measure in found.values()], allow_nan=False)


def test_sentences_are_compared_by_their_place(tmp_path: Path) -> None:
    cost = {"outcome": "complete", "num_requests": 2, "generated_tokens": 9, "kept_tokens": 8}
    right, wrong = "There is a large blue circle at the top left.", "There are four things."
    turn = make_turn(
        kind="detail",
        question="What does the image show?",
        draft=f"{right} {wrong}",
        answer=right,
        correction=cost,
        status="ok",
    )
    write_run(tmp_path, {"meta": SCENE.to_json(), "turns": [turn]})
    (row,) = read_corrections(tmp_path)
    assert (row["draft"], row["answer"]) == (["true", "false"], ["true"])
    rows = [row, {**row, "scene": "unbiased 8"}]
    found = by_name(
        summarize_corrections([make_result("correction", "sampled", {"corrections": rows})])
    )
    whole = found["corrected less draft", "sampled drafts, whole answers, detail"]
    assert whole.interval.estimate == 1.0 and whole.interval.low == 1.0
    assert found["draft true", "sampled drafts, all sentences"].interval.estimate == 0.5
    assert ("draft true", "sampled drafts, sentence 2") not in found  # no answer has a second


@pytest.mark.parametrize(
    "arm", [arm for arm in ARMS if arm.flags is not None], ids=lambda arm: arm.name
)
def test_the_flags_of_an_arm_are_those_of_the_training(arm: Any) -> None:
    flags = (*product.TRAINING_FLAGS, *arm.flags, "--input", "run", "--output", "tuned")
    config = product.parse_flags(TrainConfig, flags)
    assert config.objective == ("c3l" if arm.name.startswith("c3l") else "answers")


def test_a_student_is_examined_on_what_is_there_and_what_is_not() -> None:
    scenes = [draw_scene(seed) for seed in range(20)]
    rows = [(scene, row) for scene in scenes for row in draw_exam(scene)]
    presence = [(scene, row) for scene, row in rows if row["kind"] == "presence"]
    assert len(rows) == 20 * 9 and len(presence) == 20 * 4
    for scene, row in presence:
        name = row["question"].removeprefix("Is there a ").removesuffix("?")
        assert row["present"] == any(thing.name == name for thing in scene.things)
    assert sum(row["present"] for _, row in presence) == 40
    answers = [
        {
            **mark_answer(
                scene, row, f"Yes, {row['question'][3:-1]}.".replace("there", "there is")
            ),
            "seed": 0,
        }
        for scene, row in presence
    ]
    always_yes = f1_of_presence(np.ones((1, 80)), answers)
    assert always_yes == pytest.approx(2 * 40 / (2 * 40 + 40))
    assert [row["truth"] == "true" for row in answers] == [row["present"] for row in answers]


@pytest.mark.parametrize(
    "student", [s for s in STUDENTS if s.selection is not None], ids=lambda student: student.name
)
def test_the_flags_of_a_student_are_those_of_selection_and_training(student: Student) -> None:
    assert student.selection is not None
    product.parse_flags(SelectConfig, ("--input", "run", *student.selection))
    flags = (*product.TRAINING_FLAGS, *student_stage.TRAINING_FLAGS)
    product.parse_flags(TrainConfig, (*flags, "--input", "llava.json", "--output", "tuned"))


def test_a_table_says_which_differences_are_beyond_their_interval() -> None:
    def make(low: float, high: float) -> Measure:
        interval = Interval(estimate=(low + high) / 2, low=low, high=high)
        return Measure(question="tuning", measure="", group="", interval=interval, seeds=(0,))

    found = {("a", ""): make(0.1, 0.2), ("b", ""): make(-0.1, 0.2), ("c", ""): make(-0.2, -0.1)}
    differences = {name: (name, "") for name in "abcd"}
    assert list_differences(found, differences) == "above: a; below: c"
    assert format_interval(make(-0.001, 0.0004).interval, digits=2) == "0.00 [0.00, 0.00]"
    alone = Interval(estimate=18.25, low=math.nan, high=math.nan)
    assert format_interval(alone, digits=1) == "18.2"
