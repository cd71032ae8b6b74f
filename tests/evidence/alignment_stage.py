"""The question whether CG-VLM's alignment saves instruction data (arXiv 2311.17945): students.

A student is the shipped LLaVA with an adapter drawn anew: its vision tower and its language half
know scenes, and nothing joins them. Its adapter first learns captions, with or without the contrast
of images and captions. Then the student is fine-tuned for one epoch on a share of the instruction
data, and examined. Captions and turns are the world's own, and true.
"""

import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from c3l_ray.methods.c3l import KINDS
from c3l_ray.scenes.draw import Scene
from c3l_ray.scenes.language import DETAIL_QUESTIONS, describe_scene, draw_turn
from c3l_ray.scenes.world import LLAVA, encode_png
from tests.evidence import product
from tests.evidence.measures import (
    Measure,
    difference_of,
    draw_scenes,
    mark_sides,
    measure_rows,
    pool_rows,
    share_of,
)
from tests.evidence.stages import StageResult
from tests.evidence.student_stage import examine, f1_of_presence, is_true
from tests.evidence.worlds import SceneSet, scene_key

QUESTION = "alignment"
NO_ALIGNMENT = "none"
LOSSES = {
    "plain": ("--alignment.weight", "0"),
    "contrastive": ("--alignment.weight", "1"),
}
"""What the adapter learns of captions, and the flags of jobs.train for it."""
DESCRIPTIONS = {
    NO_ALIGNMENT: "the adapter learns no captions",
    "plain": "it learns to caption (`--alignment.weight 0`)",
    "contrastive": "it learns to caption, and the contrast of images and captions beside it",
}
SHARES = (10, 20, 50, 100)
"""Of the instruction data, in percent."""
BATCH_SIZE = 16
SPEAKERS = ("human", "gpt")
ALIGNMENT_FLAGS = ("--objective", "cgvlm", "--optim.learning-rate", "1e-2")
INSTRUCTION_FLAGS = ("--objective", "conversations", "--optim.learning-rate", "1e-3")
GROUPS = {"questions of all kinds": KINDS, "presence": ("presence",)}

Turns = list[tuple[str, str]]


def align_adapter(
    folder: Path, scenes: SceneSet, flags: Sequence[str], num_steps: int
) -> dict[str, Any]:
    """Draws the adapter anew, and trains it on captions.

    Raises:
        C3LError: the training cannot go on.
    """
    unaligned = draw_adapter_anew(folder / "unaligned", scenes.seed)
    captions = write_samples(folder / "captions", scenes, describe_to_caption)
    where = ("--model.name", str(unaligned), "--layout.image-root", str(captions.parent))
    steps = ("--optim.steps", str(num_steps))
    _, training = product.train(
        folder, captions, scenes.seed, *ALIGNMENT_FLAGS, *flags, *where, *steps
    )
    return training


def draw_adapter_anew(folder: Path, seed: int) -> Path:
    """A copy of the shipped LLaVA whose adapter has fresh weights, as torch draws them."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(LLAVA, folder, dirs_exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    (path,) = folder.glob("*.safetensors")
    weights = load_file(path)
    of_adapter = [name for name in weights if "multi_modal_projector" in name]
    assert of_adapter, "the shipped LLaVA has an adapter"
    for name in sorted(of_adapter):
        fan_in = weights[name.replace("bias", "weight")].shape[1]
        weights[name].uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
    save_file(weights, path, metadata={"format": "pt"})
    return folder


def measure_student(
    folder: Path,
    aligned: Path | None,
    to_learn: SceneSet,
    to_examine: SceneSet,
    share: int,
) -> dict[str, Any]:
    """Fine-tunes a student on a share of the instruction data for one epoch, and examines it.

    Args:
        folder: of the stage.
        aligned: the student whose adapter was aligned; None draws an adapter anew.
        to_learn: scenes of the whole instruction data.
        to_examine: scenes to ask about.
        share: of the instruction data, in percent.

    Raises:
        C3LError: the training or the engine cannot go on.
    """
    model = aligned or draw_adapter_anew(folder / "unaligned", to_learn.seed)
    num_scenes = {name: max(1, size * share // 100) for name, size in to_learn.sizes.items()}
    chosen = SceneSet(purpose=to_learn.purpose, seed=to_learn.seed, sizes=num_scenes)
    samples = write_samples(folder / "instructions", chosen, draw_conversation)
    num_steps = max(1, sum(num_scenes.values()) // BATCH_SIZE)
    where = ("--model.name", str(model), "--layout.image-root", str(samples.parent))
    steps = ("--optim.steps", str(num_steps))
    tuned, training = product.train(
        folder, samples, to_learn.seed, *INSTRUCTION_FLAGS, *where, *steps
    )
    return {"training": training, "answers": examine(tuned, to_examine)}


def describe_to_caption(scene: Scene) -> Turns:
    return [(DETAIL_QUESTIONS[0], describe_scene(scene))]


def draw_conversation(scene: Scene) -> Turns:
    """A true turn of each kind, in a random order."""
    rng = random.Random(f"instructions {scene_key(scene)}")
    turns = [draw_turn(scene, kind, rng) for kind in KINDS]
    rng.shuffle(turns)
    return turns


def write_samples(folder: Path, scenes: SceneSet, turns_of: Callable[[Scene], Turns]) -> Path:
    """Writes images and LLaVA's JSON beside them, and returns the path of the JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for scene in scenes.draw():
        name = f"{scene.world}-{scene.seed:08d}.png"
        (folder / name).write_bytes(encode_png(scene))
        turns = turns_of(scene)
        said = [(who, text) for turn in turns for who, text in zip(SPEAKERS, turn, strict=True)]
        said[0] = (SPEAKERS[0], f"<image>\n{said[0][1]}")
        conversation = [{"from": who, "value": text} for who, text in said]
        samples.append({"id": scene_key(scene), "image": name, "conversations": conversation})
    path = folder / "samples.json"
    path.write_text(json.dumps(samples))
    return path


def student_name(share: int, loss: str) -> str:
    return f"{share}_percent_{loss}"


def summarize_alignment(results: Sequence[StageResult]) -> list[Measure]:
    """By share, the accuracy of every student, and the difference that the contrast makes."""
    measures: list[Measure] = []
    for share in SHARES:
        for loss in (NO_ALIGNMENT, *LOSSES):
            name, control = student_name(share, loss), student_name(share, "plain")
            of_student = [result for result in results if result.stage.arm == name]
            seeds = {result.stage.seed for result in of_student}
            of_control = [
                result
                for result in results
                if result.stage.arm == control and result.stage.seed in seeds
            ]
            if of_student:
                measures += _summarize_student(name, of_student, control, of_control)
    return measures


def _summarize_student(
    name: str,
    results: Sequence[StageResult],
    control: str,
    control_results: Sequence[StageResult],
) -> Iterator[Measure]:
    answers, of_control = pool_rows(results, "answers"), pool_rows(control_results, "answers")
    clusters = draw_scenes([*answers, *of_control])
    for group, kinds in GROUPS.items():
        rows, before = (
            [row for row in side if row["kind"] in kinds] for side in (answers, of_control)
        )
        yield measure_rows(QUESTION, f"true, {name}", group, rows, share_of(is_true), clusters)
        if name != control and before:
            yield measure_rows(
                *(QUESTION, f"true, {name} less {control}", group),
                mark_sides(before, rows),
                difference_of(share_of(is_true)),
                clusters,
            )
    presence = [row for row in answers if row["kind"] == "presence"]
    yield measure_rows(QUESTION, f"F1, {name}", "presence", presence, f1_of_presence, clusters)
