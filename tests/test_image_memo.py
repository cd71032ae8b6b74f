"""An image is preprocessed once for its texts, and what comes of it is the processor's own."""

from typing import Any

import pytest
import torch
from PIL import Image
from transformers import BatchFeature

from c3l_ray.image_memo import IMAGES_HELD, ImageMemo, preprocess_once
from c3l_ray.processors import load_processor
from c3l_ray.scenes import world


class Counting:
    """An image processor that counts what it is given."""

    merge_size = 2

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, images: Any, **options: Any) -> BatchFeature:
        self.seen.append(images)
        return BatchFeature({"pixel_values": torch.ones(1, 2), "num_crops": options})


@pytest.fixture
def counting() -> Counting:
    return Counting()


def make_image() -> Image.Image:
    return Image.new("RGB", (4, 4))


def test_the_last_images_are_not_computed_again(counting: Counting) -> None:
    memo, images = ImageMemo(counting), [make_image() for _ in range(IMAGES_HELD + 1)]
    for image in [*images[:-1], *images[:-1]]:
        memo([[image]], size=1)
    assert len(counting.seen) == IMAGES_HELD
    memo([[images[-1]]], size=1)
    memo([[images[0]]], size=1)  # which has given way
    assert len(counting.seen) == IMAGES_HELD + 2


def test_an_equal_image_and_other_options_are_computed(counting: Counting) -> None:
    memo, image = ImageMemo(counting), make_image()
    memo([[image]], size=1)
    assert memo([[image]], size=2)["num_crops"] == {"size": 2}
    memo([[make_image()]], size=1)
    assert len(counting.seen) == 3


def test_several_images_and_what_is_none_go_to_the_processor(counting: Counting) -> None:
    memo, image = ImageMemo(counting), make_image()
    for images in ([[image], [image]], [[image, image]], ["a.png"], []):
        memo(images)
        memo(images)
    assert len(counting.seen) == 8 and memo.merge_size == 2


def test_a_caller_may_take_a_part_out(counting: Counting) -> None:
    """As processors do with numbers of crops."""
    memo, image = ImageMemo(counting), make_image()
    memo(image).pop("num_crops")
    assert memo(image).keys() == {"pixel_values", "num_crops"} and len(counting.seen) == 1


def test_a_processor_gets_one_memo() -> None:
    processor = preprocess_once(load_processor(str(world.LLAVA)))
    memo = processor.image_processor
    assert isinstance(memo, ImageMemo)
    assert preprocess_once(processor).image_processor is memo
