"""Decodes images: one decoder and one size bound for generator, scoring model and CLIP alike."""

import io
import math
import warnings
from typing import Literal

from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

from c3l_ray.errors import UnusableImage

MAX_SOURCE_PIXELS = 100_000_000
"""An image of more pixels is refused before it is decoded: it would take over 300 MB."""

MAX_ASPECT = 100
"""A longer and thinner image is refused: models scale its short side up, and the long one too."""

IMAGE_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""The formats that are decoded. Pillow reads more, some through other programs. MPO is JPEG."""

BLUR_RATIO = 8
"""An image's longer side over the standard deviation of the blur that makes it a baseline."""

HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def decode_image(data: bytes | None, max_pixels: int) -> Image.Image:
    """An image as RGB, upright, and shrunk to at most `max_pixels` with its proportions kept.

    The first frame of an animation; transparency lies on white; 16-bit values are scaled to 8.

    Raises:
        UnusableImage: `no_image`, `empty`, `too_large`, `too_narrow`, `unsupported`, or
            `undecodable` with the decoder's words.
    """
    if data is None:
        raise UnusableImage("no_image", "the sample has no jpg, jpeg, png or webp")
    if not data:
        raise UnusableImage("empty", "the image has no bytes")
    try:
        with warnings.catch_warnings():
            # Our own bound below is lower than the one Pillow warns of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as opened:
                width, height = opened.size
                if width * height > MAX_SOURCE_PIXELS:
                    raise UnusableImage(
                        "too_large", f"{width} x {height} pixels, over {MAX_SOURCE_PIXELS:,}"
                    )
                if max(width, height) > MAX_ASPECT * min(width, height):
                    raise UnusableImage("too_narrow", f"{width} x {height} pixels")
                opened.draft("RGB", _fit_size(opened.size, max_pixels))
                image = _to_rgb(ImageOps.exif_transpose(opened))
    except UnusableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnusableImage("too_large", str(error)) from error
    except UnidentifiedImageError as error:
        if data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS:
            raise UnusableImage("unsupported", "HEIC; convert it to JPEG, PNG or WebP") from error
        raise UnusableImage(
            "undecodable", f"not an image of a known format; it begins with {data[:12]!r}"
        ) from error
    except Exception as error:  # Pillow's plugins raise a dozen kinds on bytes made by strangers
        raise UnusableImage("undecodable", f"{type(error).__name__}: {error}") from error
    size = _fit_size(image.size, max_pixels)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def _fit_size(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    width, height = size
    scale = math.sqrt(max_pixels / (width * height))
    if scale >= 1:
        return size
    return max(1, math.floor(width * scale)), max(1, math.floor(height * scale))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips instead of scaling: 16-bit greys would all come out white.
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def make_baseline_image(image: Image.Image, baseline: Literal["grey", "blur"]) -> Image.Image:
    """An image of the same size that tells nothing, to take the image's place.

    Args:
        image: the image to replace.
        baseline: "grey" is grey all over; "blur" keeps the light of the whole and loses its things.
    """
    if baseline == "grey":
        return Image.new("RGB", image.size, (128, 128, 128))
    return image.filter(ImageFilter.GaussianBlur(max(image.size) / BLUR_RATIO))
