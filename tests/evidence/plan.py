"""The plan: every stage of every question, at a scale."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from c3l_ray.scenes.world import LLAVA
from tests.evidence import (
    alignment_stage,
    correction_stage,
    score_stage,
    student_stage,
    tuning_stage,
)
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
    "turns": 820,
    "learning_turns": 240,
    "none": 90,
    "tuning": 240,
    "answers_two_rounds": 560,
    "correction": 60,
    "alignment": 90,
    "students": 100,
}
"""By arm, else by question: seconds on two cores, as measured; three repetitions take under 5 h."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many scenes each question takes in a repetition.

    Attributes:
        scores: scenes of each world.
        learn: unbiased scenes to learn from.
        evaluate: by world, scenes that the tuned generators write about.
        correction: unbiased scenes whose answers are corrected.
        captions: unbiased scenes whose captions an adapter is aligned by.
        instructions: unbiased scenes of the whole instruction data of such a student.
        examine: unbiased scenes that students are asked about.
        step_share: of the steps of a full training.
        arms: by question, the arms that are run, where these are not all.
    """

    scores: int
    learn: int
    evaluate: dict[str, int]
    correction: int
    captions: int
    instructions: int
    examine: int
    step_share: float = 1.0
    arms: dict[str, tuple[str, ...]] = field(default_factory=dict)


SCALES = {
    "full": Scale(
        scores=250,
        learn=900,
        evaluate={"unbiased": 300, "biased": 100, "other_bias": 100},
        correction=200,
        captions=1600,
        instructions=1600,
        examine=300,
    ),
    "small": Scale(
        scores=6,
        learn=48,  # a tenth of their turns must fill a batch
        evaluate={"unbiased": 6, "biased": 4},
        correction=8,
        captions=16,
        instructions=160,
        examine=6,
        step_share=0.02,
        arms={
            "tuning": ("none", "answers_best", "answers_two_rounds"),
            "correction": ("sampled",),
            "students": ("grounding",),
            "alignment": ("captions_contrastive", "10_percent_contrastive"),
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
        *_plan_alignment(workplace, seed, scale),
        *_plan_students(workplace, seed, scale, learning),
    ]
    chosen = [
        stage
        for stage in stages
        if stage.arm in scale.arms.get(stage.question, (stage.arm,)) or stage is learning
    ]
    return [replace(stage, budget_s=find_budget(stage)) for stage in chosen]


def find_budget(stage: Stage) -> float:
    """The seconds that a stage may take."""
    return BUDGETS_S[stage.arm if stage.arm in BUDGETS_S else stage.question]


def _plan_scores(seed: int, scale: Scale) -> list[Stage]:
    scenes = SceneSet(purpose="scores", seed=seed, sizes=dict.fromkeys(WORLDS, scale.scores))
    return [_generation(score_stage.QUESTION, "turns", scenes, score_stage.make_turns)]


def _plan_tuning(workplace: Workplace, seed: int, scale: Scale, learning: Stage) -> list[Stage]:
    scenes = SceneSet(purpose="evaluate", seed=seed, sizes=scale.evaluate)
    stages = [learning]
    by_name: dict[str, Stage] = {}
    for arm in tuning_stage.ARMS:
        by_name[arm.name] = _plan_arm(workplace, arm, learning, scenes, by_name, scale)
    return [*stages, *by_name.values()]


def _plan_arm(
    workplace: Workplace,
    arm: tuning_stage.Arm,
    learning: Stage,
    scenes: SceneSet,
    before: Mapping[str, Stage],
    scale: Scale,
) -> Stage:
    num_steps = max(1, round(arm.steps * scale.step_share))
    untuned = before.get(tuning_stage.UNTUNED)
    first_round = before.get(arm.first_round or "")

    def run(folder: Path) -> dict[str, Any]:
        asked = workplace.load(untuned) if untuned is not None else None
        model, turns = LLAVA, workplace.folder_of(learning) / "run"
        if first_round is not None:
            model = workplace.folder_of(first_round) / "tuned/model"
            scenes_to_learn = SceneSet(**learning.settings["scenes"])
            turns = tuning_stage.write_second_turns(folder, scenes_to_learn, NUM_ANSWERS, model)
        questions = None if asked is None else asked.content["own"]
        return tuning_stage.measure_arm(folder, arm, turns, scenes, questions, num_steps, model)

    settings = {"flags": arm.flags, "steps": num_steps, "scenes": asdict(scenes)}
    return Stage(
        question=tuning_stage.QUESTION,
        arm=arm.name,
        seed=scenes.seed,
        settings=settings,
        run=run,
        needs=tuple(
            needed for needed in (untuned and learning, untuned, first_round) if needed is not None
        ),
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


def _plan_alignment(workplace: Workplace, seed: int, scale: Scale) -> list[Stage]:
    """Both ways to align an adapter, and the students that learn from each and from none."""
    captions = SceneSet(purpose="captions", seed=seed, sizes={"unbiased": scale.captions})
    to_learn = SceneSet(purpose="instructions", seed=seed, sizes={"unbiased": scale.instructions})
    to_examine = SceneSet(purpose="examine", seed=seed, sizes={"unbiased": scale.examine})
    num_steps = max(1, scale.captions // alignment_stage.BATCH_SIZE)
    aligned: dict[str, Stage] = {}
    for loss, flags in alignment_stage.LOSSES.items():
        aligned[loss] = Stage(
            question=alignment_stage.QUESTION,
            arm=f"captions_{loss}",
            seed=seed,
            settings={
                "flags": [*alignment_stage.ALIGNMENT_FLAGS, *flags],
                "steps": num_steps,
                "scenes": asdict(captions),
            },
            run=partial(
                alignment_stage.align_adapter, scenes=captions, flags=flags, num_steps=num_steps
            ),
        )

    def plan_student(share: int, loss: str) -> Stage:
        alignment = aligned.get(loss)
        model = workplace.folder_of(alignment) / "tuned/model" if alignment else None
        return Stage(
            question=alignment_stage.QUESTION,
            arm=alignment_stage.student_name(share, loss),
            seed=seed,
            settings={
                "flags": alignment_stage.INSTRUCTION_FLAGS,
                "scenes": [asdict(to_learn), asdict(to_examine)],
            },
            run=partial(
                alignment_stage.measure_student,
                aligned=model,
                to_learn=to_learn,
                to_examine=to_examine,
                share=share,
            ),
            needs=() if alignment is None else (alignment,),
        )

    students = [plan_student(share, loss) for share in alignment_stage.SHARES for loss in aligned]
    unaligned = [
        plan_student(share, alignment_stage.NO_ALIGNMENT)
        for share in (alignment_stage.SHARES[0], alignment_stage.SHARES[-1])
    ]
    return [*aligned.values(), *students, *unaligned]


def _generation(
    question: str, arm: str, scenes: SceneSet, make: Callable[..., dict[str, Any]]
) -> Stage:
    """A stage that generates turns, with more answers to each question."""
    return Stage(
        question=question,
        arm=arm,
        seed=scenes.seed,
        settings={"scenes": asdict(scenes), "answers": NUM_ANSWERS},
        run=partial(make, scenes=scenes, num_answers=NUM_ANSWERS),
    )
