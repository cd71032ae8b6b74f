"""A student in two stages, as LLaVA's recipe has them: captions, then a selected dataset."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.dataset.select import select_turns
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import draw_turn
from c3l_ray.select_config import SelectConfig
from c3l_ray.train.training_config import (
    ConversationLayout,
    ModelToTune,
    Optimization,
    Progress,
    TrainConfig,
    Workers,
)
from c3l_ray.workflows.train import train_model
from c3l_ray.workflows.training_report import TrainingReport
from tests.inputs.messages import llava_messages
from tests.train.records import encode_png, write_run

STEPS = 8

pytestmark = pytest.mark.timeout(1500)


def write_captions(folder: Path) -> Path:
    """LLaVA's list of captions, and the images in a folder of their own."""
    (folder / "images").mkdir(parents=True)
    samples = []
    for number in range(20):
        scene = draw_scene(number)
        (folder / "images" / f"{number}.png").write_bytes(encode_png(scene))
        caption = draw_turn(scene, "detail", random.Random(number))[1]
        messages = llava_messages(("human", "What is this?\n<image>"), ("gpt", caption))
        samples.append({"id": str(number), "image": f"{number}.png", "conversations": messages})
    samples.append({"id": "text only", "conversations": samples[0]["conversations"]})
    (folder / "558k.json").write_text(json.dumps(samples))
    return folder / "558k.json"


def train(output: Path, input_: Path, **changes: Any) -> tuple[TrainingReport, list[float]]:
    """What a training reports, and its losses."""
    optim = Optimization(batch_size=4, steps=STEPS, learning_rate=5e-3, shuffle_window=16)
    fields: dict[str, Any] = {
        "input": (str(input_),),
        "output": str(output),
        "model": ModelToTune(name=str(world.LLAVA)),
        "optim": optim,
        "workers": Workers(readers=1),
        "progress": Progress(log_every=1, checkpoint_every=STEPS, held_out=0.2),
        "verify": False,
    }
    report = train_model(TrainConfig(**{**fields, **changes}))
    lines = json.loads((output / "measurements.json").read_text())
    assert len(lines) == STEPS and isinstance(lines[-1]["held_out_nll"], float)
    return report, [line["loss"] for line in lines]


@pytest.mark.usefixtures("local_cluster")
def test_a_student_learns_captions_and_then_a_selected_dataset(tmp_path: Path) -> None:
    captions = write_captions(tmp_path / "pretrain")
    aligned, losses = train(
        tmp_path / "aligned",
        captions,
        objective="cgvlm",
        layout=ConversationLayout(image_root=str(tmp_path / "pretrain" / "images")),
    )
    assert aligned.images + aligned.held_out_images == 20 and aligned.left_out_images == 1
    assert (aligned.tune, aligned.skipped) == ("adapter", {})
    assert sum(losses[-3:]) < sum(losses[:3])

    write_run(tmp_path / "run", num_scenes=16)
    select = SelectConfig(
        input=str(tmp_path / "run"), output=str(tmp_path / "best"), top=40, group="image"
    )
    assert select_turns(select).turns == 16  # the image refutes the others
    student, losses = train(
        tmp_path / "student",
        tmp_path / "best",
        objective="conversations",
        model=ModelToTune(name=str(tmp_path / "aligned" / "model")),
    )
    assert student.model["initial"] == aligned.model["tuned"] != student.model["tuned"]
    assert student.images + student.held_out_images == 16 and student.left_out_images == 0
    assert (student.tune, student.skipped) == ("lora", {})
    assert sum(losses[-3:]) < sum(losses[:3])
