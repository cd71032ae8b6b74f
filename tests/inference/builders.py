"""What tests of the inference room build again and again: staged rows, and turns to score."""

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa

from c3l_ray.config import GenerateConfig
from c3l_ray.inference.scoring_model import TurnToScore
from c3l_ray.scenes.draw import Scene
from c3l_ray.scenes.render import render_scene
from c3l_ray.schema import STAGED_ROWS, Turn, conform

MakeConfig = Callable[..., GenerateConfig]  # the fixture `config`
EncodeImage = Callable[..., bytes]  # the fixture `encoded`


def stage_images(
    images: Sequence[bytes | None], errors: Sequence[str | None] | None = None
) -> pa.Table:
    """One unit of these images as the reader stages it."""
    return _stage(len(images), {"image": images, "error": errors or [None] * len(images)})


def stage_turns(
    images: Sequence[bytes], turns: Sequence[list[Turn]], errors: Sequence[str | None] | None = None
) -> pa.Table:
    """One unit of these images and their turns, as it comes to the scorer."""
    columns = {"image": images, "turns": turns, "error": errors or [None] * len(images)}
    return _stage(len(images), columns)


def _stage(num_rows: int, columns: Mapping[str, Sequence[object]]) -> pa.Table:
    return conform(
        {
            "image_id": [f"image {i}" for i in range(num_rows)],
            "key": [str(i) for i in range(num_rows)],
            "source": ["a.tar"] * num_rows,
            "unit": ["u"] * num_rows,
            "unit_rows": [num_rows] * num_rows,
            **columns,
        },
        STAGED_ROWS,
    )


def scene_turn(scene: Scene, question: str, answer: str) -> TurnToScore:
    """A turn about the image of a scene."""
    return TurnToScore(image=render_scene(scene), question=question, answer=answer)
