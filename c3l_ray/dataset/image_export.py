"""What leaves: images that any loader shows as the scoring model saw them.

A loader may ignore EXIF rotation, clip greys of 16 bits, show what lies under transparency, or lack
a format. So an image that decodes differently than it lies is written as it was decoded, at its
full size: a JPEG as JPEG, anything else as PNG, which loses nothing. All others keep their bytes.
"""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pyarrow as pa

from c3l_ray.errors import UnusableImage
from c3l_ray.images import MAX_SOURCE_PIXELS, decode_image, inspect_image

JPEG_QUALITY = 95
JPEG_FORMATS = ("JPEG", "MPO")
NUM_THREADS = min(16, os.cpu_count() or 1)  # each holds an image at its full size


class ExportedImages(NamedTuple):
    """Images that can leave, of records some of whose images cannot.

    Attributes:
        rows: of the records whose image can leave, or is null.
        images: of these records.
        is_rewritten: for each of these, whether it is written as decoded.
        failures: for each record that is left out, its source and key, and why.
    """

    rows: list[int]
    images: list[bytes | None]
    is_rewritten: list[bool]
    failures: list[str]


def export_images(table: pa.Table) -> ExportedImages:
    """The images of records as any loader shows them as the scoring model saw them.

    Args:
        table: of the schema RECORDS; images may be null.
    """
    images: list[bytes | None] = table["image"].to_pylist()
    with ThreadPoolExecutor(NUM_THREADS) as encoders:
        tried = list(encoders.map(_try_to_export, images))
    failures = [
        f"{table['source'][row]} {table['key'][row]}: {image}"
        for row, image in enumerate(tried)
        if isinstance(image, UnusableImage)
    ]
    exported = {
        row: image for row, image in enumerate(tried) if not isinstance(image, UnusableImage)
    }
    is_rewritten = [image is not images[row] for row, image in exported.items()]
    return ExportedImages(list(exported), list(exported.values()), is_rewritten, failures)


def export_image(data: bytes) -> bytes:
    """An image as any loader shows it: its own bytes, or encoded anew as it was decoded.

    Raises:
        UnusableImage: it cannot be decoded.
    """
    stored = inspect_image(data)
    if stored.is_plain:
        return data
    image = decode_image(data, MAX_SOURCE_PIXELS)
    image.info = {}  # nothing of the rotation and transparency that were applied
    buffer = io.BytesIO()
    if stored.format in JPEG_FORMATS:
        # Without subsampling, so that colours lose no more than lightness does.
        options = {"quality": JPEG_QUALITY, "subsampling": 0}
        image.save(buffer, "JPEG", icc_profile=stored.color_profile, **options)
    else:
        image.save(buffer, "PNG", icc_profile=stored.color_profile)
    return buffer.getvalue()


def _try_to_export(data: bytes | None) -> bytes | UnusableImage | None:
    try:
        return None if data is None else export_image(data)
    except UnusableImage as unusable:
        return unusable
