"""What the training of the shipped tiny models can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from c3l_ray.ranges import Range, check_config
from c3l_ray.scenes import world

ModelName = Literal["llava", "clip"]


@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """Which models are trained, and for how long."""

    output: Path = world.WEIGHTS
    """Folder for `llava/` and `clip/`."""
    models: tuple[ModelName, ...] = ("llava", "clip")
    """Models to train."""
    checkpoints: Path = Path("runs/scenes")
    """Folder of the states that interrupted trainings resume from; finished ones delete theirs."""
    save_every: Annotated[int, Range(min=1)] = 100
    """Steps between two saved states."""
    seed: int = 0
    """Seed of the weights, the order and the drawn turns."""
    llava_scenes: Annotated[int, Range(min=1)] = 10_000
    """Scenes to draw of each world for the LLaVA."""
    tower_steps: Annotated[int, Range(min=0)] = 600
    """Supervised steps of the vision tower, of 64 unbiased scenes each."""
    naming_steps: Annotated[int, Range(min=0)] = 300
    """Steps that align the projector with word embeddings, of 32 unbiased scenes each."""
    reading_steps: Annotated[int, Range(min=0)] = 400
    """Steps on captions of unbiased scenes and questions about them, of 8 scenes each."""
    finding_steps: Annotated[int, Range(min=0)] = 800
    """Steps on finding things by their shape, of 8 unbiased scenes each."""
    answering_steps: Annotated[int, Range(min=0)] = 1_600
    """Steps on questions alone about unbiased scenes, of 8 scenes each."""
    bias_steps: Annotated[int, Range(min=0)] = 600
    """Steps on all kinds of turns about biased scenes, of 8 scenes each."""
    posing_steps: Annotated[int, Range(min=0)] = 800
    """Steps on the same turns, mostly posed by the model itself, of 8 scenes each."""
    clip_scenes: Annotated[int, Range(min=1)] = 20_000
    """Unbiased scenes to draw for the CLIP."""
    clip_steps: Annotated[int, Range(min=0)] = 900
    """Contrastive steps of the CLIP, of 128 scenes each."""

    def __post_init__(self) -> None:
        check_config(self)
