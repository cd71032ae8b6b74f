"""Images as a page holds them: small, and inside it."""

import base64
import io
from typing import NamedTuple

from c3l_ray.errors import UnusableImage
from c3l_ray.images import decode_image

MAX_PIXELS = 256 * 256
QUALITY = 80  # of WebP


class Thumbnail(NamedTuple):
    """An image as a page shows it.

    Attributes:
        url: data: of a small WebP, or None where there is nothing to show.
        size: width and height in pixels of what is shown.
        reason: why there is nothing to show.
    """

    url: str | None
    size: tuple[int, int] = (0, 0)
    reason: str = ""


def make_thumbnail(data: bytes | None) -> Thumbnail:
    """A record's image in at most MAX_PIXELS pixels."""
    if data is None:
        return Thumbnail(None, reason="the records hold no image")
    try:
        image = decode_image(data, MAX_PIXELS)
    except UnusableImage as unusable:
        return Thumbnail(None, reason=str(unusable))
    buffer = io.BytesIO()
    image.info = {}  # no profiles and no EXIF
    image.save(buffer, "WEBP", quality=QUALITY)
    content = base64.b64encode(buffer.getvalue()).decode()
    return Thumbnail(f"data:image/webp;base64,{content}", image.size)
