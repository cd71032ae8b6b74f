"""A config over the shipped model, and its processor."""

from pathlib import Path
from typing import Any

import pytest

from c3l_ray.scenes import world
from c3l_ray.train.reading.encode import load_processor
from c3l_ray.train.training_config import ModelToTune, Optimization, TrainConfig
from tests.train.records import MakeTrainConfig


@pytest.fixture
def train_config(tmp_path: Path) -> MakeTrainConfig:
    """A config over the shipped model, with some fields replaced."""

    def make(**changed: Any) -> TrainConfig:
        fields: dict[str, Any] = {
            "input": (str(tmp_path / "records-run"),),
            "output": str(tmp_path / "tuned"),
            "model": ModelToTune(name=str(world.LLAVA)),
            "optim": Optimization(batch_size=4, micro_batch=4),
        }
        return TrainConfig(**{**fields, **changed})

    return make


@pytest.fixture(scope="session")
def processor() -> Any:
    return load_processor(str(world.LLAVA))
