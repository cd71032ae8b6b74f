"""The other picture that an answer is scored with where --scorer.baseline is "mismatched"."""

import hashlib
from collections.abc import Mapping

from PIL import Image

NO_OTHER_PICTURE = (
    "turns without scores: with --scorer.baseline mismatched an image is compared with another "
    "picture of its unit, and a unit held one picture only"
)


def pair_with_other_pictures(images: Mapping[int, Image.Image]) -> dict[int, Image.Image | None]:
    """By row, the image of the next row with another picture, the first row after the last one.

    Rows may show one picture: a Parquet file of one question a row, lists about the same files.
    Pictures are told apart by their pixels. A row without another picture is left out.

    Args:
        images: decoded, by row.
    """
    rows = list(images)
    picture = {row: _digest_pixels(image) for row, image in images.items()}
    pairs: dict[int, Image.Image | None] = {}
    for place, row in enumerate(rows):
        following = rows[place + 1 :] + rows[:place]
        other = next((other for other in following if picture[other] != picture[row]), None)
        if other is not None:
            pairs[row] = images[other]
    return pairs


def _digest_pixels(image: Image.Image) -> bytes:
    content = hashlib.blake2b(repr(image.size).encode(), digest_size=16)
    content.update(image.tobytes())
    return content.digest()
