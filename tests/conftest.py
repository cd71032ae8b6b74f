"""Every process of the suite: one thread, no hub, no tokens; and small inputs to work on."""

import os

os.environ.update(
    OMP_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
    RAY_AUTH_MODE="disabled",
    RAY_USAGE_STATS_ENABLED="0",
    TOKENIZERS_PARALLELISM="false",
)

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from c3l_ray.config import Clip, GenerateConfig, Model, Sampling
from c3l_ray.scenes import world


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Twelve scenes in two shards."""
    world.write_scenes(tmp_path / "scenes", num_scenes=12, scenes_per_shard=6)
    return tmp_path / "scenes"


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., GenerateConfig]:
    """A config over the shipped models, with some fields replaced."""

    def make(**changed: Any) -> GenerateConfig:
        fields: dict[str, Any] = {
            "input": str(tmp_path / "scenes"),
            "output": str(tmp_path / "run"),
            "model": Model(name=str(world.LLAVA), dtype="float32", max_len=256, max_seqs=32),
            "sampling": Sampling(max_tokens=96),
            "clip": Clip(name=str(world.CLIP), weights=None),
        }
        return GenerateConfig(**{**fields, **changed})

    return make


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """An image as bytes: a gradient of a size, in a mode and format."""

    def make(size: tuple[int, int] = (40, 30), mode: str = "RGB", format_: str = "PNG") -> bytes:
        image = Image.linear_gradient("L").resize(size).convert(mode)
        buffer = io.BytesIO()
        image.save(buffer, format_)
        return buffer.getvalue()

    return make
