"""An image is preprocessed once for all of its texts.

Processors of transformers preprocess an image for every text that they are given with it: resized,
normalized and cut into patches, which takes longer than the text by far.
"""

import copy
from collections.abc import Iterator
from typing import Any

from PIL import Image

IMAGES_HELD = 2
"""Images whose inputs are kept: a turn has one, and another on the side without it."""


class ImageMemo:
    """An image processor that keeps what it made of the last images, and returns it again.

    Images are told apart by identity, and are held as long as their inputs. Lists of several
    images are preprocessed anew.

    Args:
        image_processor: of transformers.
    """

    def __init__(self, image_processor: Any) -> None:
        self._image_processor = image_processor
        self._kept: dict[tuple[int, str], tuple[Image.Image, Any]] = {}

    def __call__(self, images: Any, *args: Any, **options: Any) -> Any:
        found = list(_iter_images(images))
        if args or len(found) != 1 or not isinstance(found[0], Image.Image):
            return self._image_processor(images, *args, **options)
        only = found[0]
        key = (id(only), repr(sorted(options.items())))
        if key not in self._kept:
            made = self._image_processor(images, **options)
            while len(self._kept) >= IMAGES_HELD:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = (only, made)
        return copy.copy(self._kept[key][1])  # processors take out what models do not read

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._image_processor, name)


def preprocess_once(processor: Any) -> Any:
    """The processor, made to preprocess an image once where it comes with several texts in turn.

    Args:
        processor: of `processors.load_processor`; it is changed.
    """
    if not isinstance(processor.image_processor, ImageMemo):
        processor.image_processor = ImageMemo(processor.image_processor)
    return processor


def _iter_images(images: Any) -> Iterator[Any]:
    """What stands in lists of lists."""
    if isinstance(images, list | tuple):
        for image in images:
            yield from _iter_images(image)
    else:
        yield images
