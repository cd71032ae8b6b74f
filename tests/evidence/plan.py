"""The plan: every stage of every question, at a scale."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.evidence import correction_stage, product, score_stage, student_stage, tuning_stage
from tests.evidence.stages import Stage, Workplace
from tests.evidence.worlds import WORLDS, SceneSet

QUESTIONS = {
    "scores": "Does a score find hallucinated answers?",
    "tuning": "Does tuning make a better generator?",
    "correction": "Does VIC correct?",
    "alignment": "Does CG-VLM's alignment save instruction data?",
    "students": "Is selected data better to train on?",
}
NUM_ANSWERS = 6
BUDGETS_S = {
    "turns": 450,
    "learning_turns": 300,
    "none": 150,
    "tuning": 200,
    "correction": 120,
    "students": 100,
}
"""By arm, else by question: seconds on two free cores, so that three repetitions take under 3 h."""
NOT_WRITTEN = "not written yet"
TOO_OLD = "this version neither samples more answers to a question nor learns from them"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many scenes each question takes in a repetition.

    Attributes:
        scores: scenes of each world.
        learn: unbiased scenes to learn from.
        evaluate: by world, scenes that the tuned generators write about.
        correction: unbiased scenes whose answers are corrected.
        examine: unbiased scenes that students are asked about.
        step_share: of the steps of a full training.
        arms: by question, the arms that are run, where these are not all.
    """

    scores: int
    learn: int
    evaluate: dict[str, int]
    correction: int
    examine: int
    step_share: float = 1.0
    arms: dict[str, tuple[str, ...]] = field(default_factory=dict)


SCALES = {
    "full": Scale(
        scores=250,
        learn=900,
        evaluate={"unbiased": 300, "biased": 100, "other_bias": 100},
        correction=200,
        examine=300,
    ),
    "small": Scale(
        scores=6,
        learn=48,  # a tenth of their turns must fill a batch
        evaluate={"unbiased": 6, "biased": 4},
        correction=8,
        examine=6,
        step_share=0.02,
        arms={
            "tuning": ("none", "answers_best"),
            "correction": ("sampled",),
            "students": ("grounding",),
        },
    ),
}


def plan_stages(workplace: Workplace, seeds: Sequence[int], scale: Scale) -> list[Stage]:
    """All stages, each after those that it needs."""
    return [stage for seed in seeds for stage in _plan_repetition(workplace, seed, scale)]


def _plan_repetition(workplace: Workplace, seed: int, scale: Scale) -> list[Stage]:
    to_learn = SceneSet(purpose="learn", seed=seed, sizes={"unbiased": scale.learn})
    learning = _generation(
        *(tuning_stage.QUESTION, tuning_stage.LEARNING_TURNS, to_learn),
        tuning_stage.make_learning_turns,
    )
    stages = [
        *_plan_scores(seed, scale),
        *_plan_tuning(workplace, seed, scale, learning),
        *_plan_correction(seed, scale),
        *_plan_alignment(seed),
        *_plan_students(workplace, seed, scale, learning),
    ]
    chosen = [
        stage
        for stage in stages
        if stage.arm in scale.arms.get(stage.question, (stage.arm,)) or stage is learning
    ]
    return [replace(stage, budget_s=find_budget(stage)) for stage in chosen]


def find_budget(stage: Stage) -> float:
    """The seconds that a stage may take; 0 for one that nobody has written."""
    return BUDGETS_S.get(stage.arm, BUDGETS_S.get(stage.question, 0))


def _plan_scores(seed: int, scale: Scale) -> list[Stage]:
    scenes = SceneSet(purpose="scores", seed=seed, sizes=dict.fromkeys(WORLDS, scale.scores))
    return [_generation(score_stage.QUESTION, "turns", scenes, score_stage.make_turns)]


def _plan_tuning(workplace: Workplace, seed: int, scale: Scale, learning: Stage) -> list[Stage]:
    scenes = SceneSet(purpose="evaluate", seed=seed, sizes=scale.evaluate)
    stages = [learning]
    untuned: Stage | None = None
    for arm in tuning_stage.ARMS:
        stage = _plan_arm(workplace, arm, learning, scenes, untuned, scale)
        untuned = untuned or stage
        stages.append(stage)
    return stages


def _plan_arm(
    workplace: Workplace,
    arm: tuning_stage.Arm,
    learning: Stage,
    scenes: SceneSet,
    untuned: Stage | None,
    scale: Scale,
) -> Stage:
    num_steps = max(1, round(arm.steps * scale.step_share))
    is_possible = product.KNOWS_ANSWERS or not arm.learns_answers

    def run(folder: Path) -> dict[str, Any]:
        asked = workplace.load(untuned) if untuned is not None else None
        return tuning_stage.measure_arm(
            folder,
            arm,
            workplace.folder_of(learning) / "run",
            scenes,
            None if asked is None else asked.content["own"],
            num_steps,
        )

    return Stage(
        question=tuning_stage.QUESTION,
        arm=arm.name,
        seed=scenes.seed,
        settings={"flags": arm.flags, "steps": num_steps, "scenes": asdict(scenes)},
        run=run if is_possible else None,
        needs=() if untuned is None else (learning, untuned),
        obstacle="" if is_possible else TOO_OLD,
    )


def _plan_correction(seed: int, scale: Scale) -> list[Stage]:
    scenes = SceneSet(purpose="correction", seed=seed, sizes={"unbiased": scale.correction})
    return [
        Stage(
            question=correction_stage.QUESTION,
            arm=arm,
            seed=seed,
            settings={"temperature": temperature, "scenes": asdict(scenes)},
            run=partial(correction_stage.make_corrections, scenes=scenes, temperature=temperature),
        )
        for arm, temperature in correction_stage.ARMS.items()
    ]


def _plan_students(workplace: Workplace, seed: int, scale: Scale, learning: Stage) -> list[Stage]:
    scenes = SceneSet(purpose="examine", seed=seed, sizes={"unbiased": scale.examine})
    num_steps = max(1, round(student_stage.NUM_STEPS * scale.step_share))
    return [
        Stage(
            question=student_stage.QUESTION,
            arm=student.name,
            seed=seed,
            settings={
                "selection": student.selection,
                "flags": student_stage.TRAINING_FLAGS,
                "steps": num_steps,
                "scenes": asdict(scenes),
            },
            run=partial(
                student_stage.measure_student,
                student=student,
                learning_run=workplace.folder_of(learning) / "run",
                scenes=scenes,
                num_steps=num_steps,
            ),
            needs=() if student.selection is None else (learning,),
        )
        for student in student_stage.STUDENTS
    ]


def _plan_alignment(seed: int) -> list[Stage]:
    """The stages of a question that nobody has written yet, so that they are listed as missing."""
    return [
        Stage(
            question="alignment",
            arm=f"{share}_percent_{loss}",
            seed=seed,
            settings={},
            run=None,
            obstacle=NOT_WRITTEN,
        )
        for share in (10, 20, 50, 100)
        for loss in ("plain", "contrastive")
    ]


def _generation(
    question: str, arm: str, scenes: SceneSet, make: Callable[..., dict[str, Any]]
) -> Stage:
    """A stage that generates turns, with more answers to each question where that is possible."""
    num_answers = NUM_ANSWERS if product.KNOWS_ALTERNATIVES else 0
    return Stage(
        question=question,
        arm=arm,
        seed=scenes.seed,
        settings={"scenes": asdict(scenes), "answers": num_answers},
        run=partial(make, scenes=scenes, num_answers=num_answers),
    )
