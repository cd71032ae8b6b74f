"""The question whether tuning makes a better generator: arms that are tuned alike and judged alike.

Every arm learns from the same turns of the untuned model. Then it writes turns about scenes that no
arm has seen, and answers the untuned model's own questions about them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from c3l_ray.errors import C3LError
from c3l_ray.evaluation.judgement import parse_scene
from c3l_ray.runs.commit import commit_unit, read_manifests, read_records
from c3l_ray.runs.folder import REPORT, RunFolder
from c3l_ray.scenes.draw import Scene
from c3l_ray.scenes.truth import TRUE, judge_turn
from c3l_ray.scenes.world import LLAVA
from c3l_ray.schema import STAGED_ROWS, Record, conform, replace_columns
from c3l_ray.workflows.c3l_config import SEEDS_PER_RUN
from tests.evidence import product
from tests.evidence.answering import Row, measure_generator
from tests.evidence.worlds import SceneSet

QUESTION = "tuning"
LEARNING_TURNS = "learning_turns"
"""The arm that is none: the untuned model's turns, from which the others learn."""
UNTUNED = "none"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to tune the generator.

    Attributes:
        name: of the arm.
        description: what it learns, for people.
        flags: of jobs.train; None tunes nothing.
        steps: of the optimizer, at full scale.
        by_truth: whether the scores that it learns by are replaced by the truth.
        first_round: the arm whose tuned model writes the turns, and is tuned again on them; the
            untuned model scores them, as in every round of jobs.c3l.
    """

    name: str
    description: str
    flags: tuple[str, ...] | None
    steps: int = 0
    by_truth: bool = False
    first_round: str | None = None


def answers_flags(by: str, pair_weight: float, rate: float) -> tuple[str, ...]:
    """The flags of an arm that learns the best of several answers to a question."""
    return (
        *("--objective", "answers", "--answers.by", by),
        *("--answers.pair-weight", str(pair_weight), "--optim.learning-rate", str(rate)),
    )


C3L_LIKELIHOOD = (
    *("--labels.by", "visual_ifd", "--labels.within", "kind"),
    *("--contrast.similarity", "likelihood", "--optim.learning-rate", "5e-4"),
)
ARMS = (
    Arm(name=UNTUNED, description="nothing: the model as it came", flags=None),
    Arm(
        name="c3l_i2c",
        description="C3L as published: cosines, the positive by `i2c`",
        flags=("--labels.by", "i2c"),
        steps=56,
    ),
    Arm(
        name="c3l_visual_ifd",
        description="C3L by likelihoods, the positive by `visual_ifd` within its kind",
        flags=C3L_LIKELIHOOD,
        steps=56,
    ),
    Arm(
        name="answers_best",
        description="NLL of the best answer by `grounding`",
        flags=answers_flags("grounding", 0, 1e-3),
        steps=300,
    ),
    Arm(
        name="answers_random",
        description="control: NLL of a random answer",
        flags=answers_flags("random", 0, 1e-3),
        steps=300,
    ),
    Arm(
        name="answers_confidence",
        description="control: NLL of the best answer by `image_logprob`",
        flags=answers_flags("image_logprob", 0, 1e-3),
        steps=300,
    ),
    Arm(
        name="pairs_best",
        description="NLL of the best answer, and DPO against the worst, by `grounding`",
        flags=answers_flags("grounding", 1, 5e-4),
        steps=150,
    ),
    Arm(
        name="pairs_random",
        description="control: the same on random pairs",
        flags=answers_flags("random", 1, 5e-4),
        steps=150,
    ),
    Arm(
        name="answers_true",
        description="ceiling: NLL of an answer that is true; the truth stands in for `grounding`",
        flags=answers_flags("grounding", 0, 1e-3),
        steps=300,
        by_truth=True,
    ),
    Arm(
        name="answers_two_rounds",
        description="`answers_best`, and once more the same from the turns of that model",
        flags=answers_flags("grounding", 0, 1e-3),
        steps=300,
        first_round="answers_best",
    ),
)


def make_learning_turns(folder: Path, scenes: SceneSet, num_answers: int) -> dict[str, Any]:
    """Runs jobs.generate on the scenes to learn from, with more answers to each question.

    Raises:
        C3LError: the run cannot go on.
    """
    run = product.generate(folder, scenes, "--answers", str(num_answers))
    report = RunFolder.open(str(run)).read_json(REPORT)
    assert report is not None
    return {name: report[name] for name in ("images", "turns", "turn_status", "seconds")}


def write_second_turns(folder: Path, scenes: SceneSet, num_answers: int, model: Path) -> Path:
    """The run in which a tuned model writes about the scenes to learn from, with fresh seeds.

    Raises:
        C3LError: the run cannot go on.
    """
    seed = scenes.seed * SEEDS_PER_RUN + 1
    flags = ("--model.name", str(model), "--sampling.seed", str(seed))
    return product.generate(folder, scenes, "--answers", str(num_answers), *flags)


def measure_arm(
    folder: Path,
    arm: Arm,
    learning_run: Path,
    scenes: SceneSet,
    questions: Sequence[Row] | None,
    num_steps: int,
    first_model: Path = LLAVA,
) -> dict[str, Any]:
    """Tunes the generator as the arm says, and measures it.

    Args:
        folder: of the stage.
        arm: how.
        learning_run: the turns to learn from.
        scenes: to write about.
        questions: turns of the untuned model about them; None for that model itself.
        num_steps: of the optimizer.
        first_model: the model to tune.

    Raises:
        C3LError: the training or the generator cannot go on.
    """
    model = first_model
    training: dict[str, Any] = {}
    if arm.flags is not None:
        run = judge_learning_run(learning_run, folder / "judged") if arm.by_truth else learning_run
        flags = (*arm.flags, "--optim.steps", str(num_steps), "--model.name", str(first_model))
        model, training = product.train(folder, run, scenes.seed, *flags)
    return {"training": training, **measure_generator(model, scenes, questions)}


def judge_learning_run(run: Path, copy: Path) -> Path:
    """A copy of a run in which the truth of every answer stands in for its `grounding`.

    It is 1 where the answer is true and 0 elsewhere. No user can have it: it is the ceiling of what
    any score could teach.
    """
    source, target = RunFolder.open(str(run)), RunFolder.open(str(copy))
    if target.read_json(REPORT) is not None:
        return copy
    report = source.read_json(REPORT)
    if report is None:
        raise C3LError(f"{run} is no run")
    for manifest in read_manifests(source):
        if not manifest.file:
            continue
        table = read_records(source, manifest)
        records = cast(list[Record], table.to_pylist())
        for record in records:
            scene = parse_scene(record["meta"])
            assert scene is not None, "the run is over scenes"
            write_truths(scene, record)
        table = replace_columns(table, turns=[record["turns"] for record in records])
        columns = {name: table[name] for name in table.column_names if name in STAGED_ROWS.names}
        unit = {"unit": [manifest.unit] * len(records), "unit_rows": [len(records)] * len(records)}
        staged = conform({**columns, **unit}, STAGED_ROWS)
        commit_unit(target, manifest.unit, manifest.source, staged, manifest.origin)
    target.write_json(REPORT, report)
    return copy


def write_truths(scene: Scene, record: Record) -> None:
    """Puts the truth in place of the `grounding` of every scored answer of a record."""
    for turn in record["turns"]:
        for answer in (turn, *(turn["alternatives"] or [])):
            scores = answer["scores"]
            if scores is not None:
                truth = judge_turn(scene, turn["question"], answer["answer"])
                scores["grounding"] = float(truth == TRUE)
