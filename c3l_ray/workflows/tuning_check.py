"""What jobs.c3l asks of the training before the first round, which takes hours, is generated."""

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.read import index_shard, read_unit
from c3l_ray.inputs.units import Shard
from c3l_ray.train.training_config import TrainConfig

if TYPE_CHECKING:
    from c3l_ray.train.reading.batches import MicroBatch

log = logging.getLogger(__name__)

MAX_SHARDS = 4
"""Read for the first images: those before them may be damaged or empty."""


def check_model_to_tune(config: TrainConfig) -> list[str]:
    """Refuses a model that cannot be tuned, or written back once it is.

    Returns:
        Notes on what of it is not tuned.

    Raises:
        PreflightError: its weights are quantized or not in safetensors, are held in another way
            than transformers loads them, or it takes no text without an image.
    """
    from c3l_ray.inference.model_check import check_tunable
    from c3l_ray.train.learning.export import check_exportable
    from c3l_ray.train.learning.loading import describe_lora_reach
    from c3l_ray.train.reading.encode import check_takes_text

    name, revision = config.model.name, config.model.revision
    check_tunable("--model.name", name, revision)
    check_exportable(name, revision)
    check_takes_text(name, revision)
    notes = describe_lora_reach(config)
    for note in notes:
        log.warning(note)
    return notes


def check_images_to_learn(
    shards: Sequence[Shard], layout: Layout, config: TrainConfig
) -> "list[MicroBatch]":
    """Refuses images that the training would skip, each for the tokens of the image alone.

    Args:
        shards: of the first round's input.
        layout: where an image is found in its file.
        config: of the training.

    Returns:
        As `check_image_lengths`.

    Raises:
        PreflightError: all of the first images need more tokens than the training takes.
    """
    from c3l_ray.train.reading.length_check import NUM_CHECKED_IMAGES, check_image_lengths

    images = list(_read_first_images(shards[:MAX_SHARDS], layout, NUM_CHECKED_IMAGES))
    return check_image_lengths(images, config)


def _read_first_images(shards: Sequence[Shard], layout: Layout, num_images: int) -> Iterator[bytes]:
    """The bytes of the first images that can be read."""
    for shard in shards:
        units = index_shard(shard, layout, first_rows=num_images)
        rows = read_unit(units[0], layout).slice(0, num_images).column("image").to_pylist()
        images = [image for image in rows if image is not None][:num_images]
        yield from images
        num_images -= len(images)
        if not num_images:
            break
