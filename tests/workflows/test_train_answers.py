"""A training with the objective answers that destroys a model's language, and is stopped."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.errors import C3LError
from c3l_ray.scenes import world
from c3l_ray.train.objectives import Answers
from c3l_ray.train.training_config import (
    ModelToTune,
    Optimization,
    Progress,
    TrainConfig,
    Workers,
)
from c3l_ray.workflows.summaries import summarize_training
from c3l_ray.workflows.train import train_model
from tests.train.records import write_run

STEPS = 8

pytestmark = pytest.mark.timeout(1500)


@pytest.mark.usefixtures("local_cluster")
def test_a_training_that_makes_replies_unreadable_stops_and_can_go_on(tmp_path: Path) -> None:
    write_run(tmp_path / "run", num_scenes=12)
    config = TrainConfig(
        input=(str(tmp_path / "run"),),
        output=str(tmp_path / "tuned"),
        model=ModelToTune(name=str(world.LLAVA)),
        objective="answers",
        answers=Answers(pair_weight=1.0, readable_replies=6),
        # The rate rises: the first steps change little, the later ones everything.
        optim=Optimization(batch_size=4, steps=STEPS, learning_rate=0.02, warm_up=0.99),
        workers=Workers(readers=1),
        progress=Progress(log_every=1, checkpoint_every=1, evaluate_every=3, held_out=0.2),
        verify=False,
    )
    with pytest.raises(C3LError, match="the training stopped itself at step") as stop:
        train_model(config)
    lines = read_lines(tmp_path)
    assert lines[0] == {"step": 0, "held_out_readable": 1.0}
    last = lines[-1]["step"]
    assert lines[-1]["held_out_readable"] < 0.9 and 1 < last < STEPS
    assert all(line["held_out_readable"] >= 0.9 for line in lines[:-1])
    assert f"at step {last}: of the replies to 6 instructions about held-out" in str(stop.value)
    assert f"the checkpoint of step {last - 1} is kept" in str(stop.value)
    assert not (tmp_path / "tuned" / "model").exists()

    config = dataclasses.replace(
        config, answers=dataclasses.replace(config.answers, min_readable=0.0)
    )
    report = train_model(config)
    steps = [line["step"] for line in read_lines(tmp_path)]
    assert steps == list(range(STEPS + 1))
    assert report.left_out_turns == {"no_alternatives": 12, "answers_agree": 12}
    assert report.finished and (tmp_path / "tuned" / "model").exists()
    measured = report.last_measurements
    names = ("nll", "pair", "margin", "margin_gain", "pair_accuracy", "readable")
    assert all(isinstance(measured[f"held_out_{name}"], float) for name in names)
    assert "turns: no_alternatives 12" in summarize_training(report, config.output)


def read_lines(folder: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = json.loads((folder / "tuned/measurements.json").read_text())
    return lines
