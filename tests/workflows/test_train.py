"""Trainings that are refused before they start."""

from pathlib import Path
from typing import Any

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.methods.labels import LabelRules
from c3l_ray.scenes import world
from c3l_ray.train.training_config import ModelToTune, Optimization, Progress, TrainConfig
from c3l_ray.workflows.train import train_model
from tests.train.records import write_run


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records") / "run"
    write_run(folder, num_scenes=20)
    return folder


def make_config(records: Path, output: Path, **changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "input": (str(records),),
        "output": str(output),
        "model": ModelToTune(name=str(world.LLAVA)),
        "optim": Optimization(batch_size=2),
        "progress": Progress(held_out=0.0),
    }
    return TrainConfig(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": ("/nowhere",)}, "--input /nowhere: not the output of a run"),
        ({"model": ModelToTune(name="/nowhere")}, "--model.name /nowhere: no such folder"),
        ({"optim": Optimization(batch_size=21)}, "20 images to learn from, fewer than --optim.ba"),
        ({"labels": LabelRules(margin=2.0, require_gain=False)}, "0 images to learn from"),
        ({"progress": Progress(held_out=0.99)}, "images to learn from"),
    ],
)
def test_an_impossible_training_is_refused_before_the_start(
    records: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PreflightError, match=message):
        train_model(make_config(records, tmp_path / "tuned", **changes))
    assert not (tmp_path / "tuned").exists()


def test_records_without_images_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run", num_scenes=0, keep_images=False)
    with pytest.raises(PreflightError, match="its records hold no images"):
        train_model(make_config(tmp_path / "run", tmp_path / "tuned"))
