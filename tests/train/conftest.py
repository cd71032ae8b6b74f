"""Records to learn from, and a config over the shipped model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.scenes import world
from c3l_ray.train.training_config import Optimization, TrainConfig, Tuned


@pytest.fixture
def train_config(tmp_path: Path) -> Callable[..., TrainConfig]:
    """A config over the shipped model, with some fields replaced."""

    def make(**changed: Any) -> TrainConfig:
        fields: dict[str, Any] = {
            "input": (str(tmp_path / "records-run"),),
            "output": str(tmp_path / "tuned"),
            "model": Tuned(name=str(world.LLAVA)),
            "optim": Optimization(batch_size=4, micro_batch=4),
        }
        return TrainConfig(**{**fields, **changed})

    return make
