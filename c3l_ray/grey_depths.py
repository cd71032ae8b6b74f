"""Greys of more than 8 bits as 8 bits: integers keep their highest bits, floats are scaled.

White is the least of these values that holds all values of the image:

    12 bits                 4,095
    16 bits                 255 or 65,535; signed 255 or 32,767
    32 bits                 255, 65,535 or 4,294,967,295; signed 255, 65,535 or 2,147,483,647
    float                   1, 255 or 65,535

For 12 and 16 bits the largest is what the file declares; 32-bit integers and floats declare no
white. 12-bit values in a file of 16 bits would come out black. So an image whose brightest pixel is
below a sixteenth of white is refused, not guessed at, as is one with values that are negative,
above white or not finite. An image of zeros is black.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from c3l_ray.errors import UnusableImage

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO = 0
SIGNED = 2
NATIVE_ORDER = {"F;32BF": "F;32NF", "I;32BS": "I;32NS", "I;16BS": "I;16NS"}
STRIP_ROWS = 256  # that are scaled at once, so that no copy of a large image is made
DARKEST_WHITE = 1 / 16
"""The least share of white that the brightest pixel of an image has."""


def is_deep_grey(mode: str) -> bool:
    """Whether Pillow's mode is one of greys of more than 8 bits."""
    return mode.startswith("I") or mode == "F"


def prepare_tiff(opened: ImageFile.ImageFile) -> None:
    """Has a TIFF of which only the header is read decoded as it was meant; does nothing to others.

    Pillow turns the bytes of compressed big-endian values that libtiff has turned already, which
    makes noise of them, and takes signed 8-bit values for unsigned ones.

    Raises:
        UnusableImage: `undecodable`, for signed 8-bit values.
    """
    if not isinstance(opened, TiffImagePlugin.TiffImageFile):
        return
    if _is_signed(opened) and not is_deep_grey(opened.mode):
        raise UnusableImage("undecodable", "TIFF of signed 8-bit values, whose scale is unknown")
    opened.tile = [
        tile._replace(args=(NATIVE_ORDER.get(tile.args[0], tile.args[0]), *tile.args[1:]))
        if tile.codec_name == "libtiff" and isinstance(tile.args, tuple)
        else tile
        for tile in opened.tile
    ]


def scale_grey(image: Image.Image, opened: ImageFile.ImageFile) -> Image.Image:
    """A deep grey image in 8 bits; where it is transparent it is white.

    Args:
        image: of a mode that `is_deep_grey` names, perhaps rotated.
        opened: the file that it was read from, which declares its depth.

    Raises:
        UnusableImage: `undecodable`: what is white cannot be known.
    """
    values, whites = _read_values(image, opened)
    white = _find_white(values, whites)
    grey = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), STRIP_ROWS):
        strip = values[top : top + STRIP_ROWS]
        if values.dtype.kind == "f":
            strip = np.rint(strip * np.float32(255 / white))
        else:
            strip = strip >> (white.bit_length() - 8)
        grey[top : top + STRIP_ROWS] = strip
    if _read_tag(opened, PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _read_values(
    image: Image.Image, opened: ImageFile.ImageFile
) -> tuple[NDArray[Any], tuple[int, ...]]:
    """The values [height, width], and what may be white among values of their type."""
    values = np.asarray(image)
    if image.mode == "F":
        return values, (1, 255, 65_535)
    bits, is_signed = (_read_tag(opened, BITS_PER_SAMPLE) or (16,))[0], _is_signed(opened)
    if bits == 32 and not is_signed:
        values = values.view(np.uint32)
    declared = 2 ** (bits - is_signed) - 1
    return values, (*(white for white in (255, 65_535) if white < declared >> 4), declared)


def _find_white(values: NDArray[Any], whites: tuple[int, ...]) -> int:
    darkest, brightest = float(values.min()), float(values.max())
    if not np.isfinite(darkest) or not np.isfinite(brightest):
        raise UnusableImage("undecodable", "a grey image with values that are not finite")
    if darkest < 0 or brightest > whites[-1]:
        raise UnusableImage(
            "undecodable",
            f"a grey image with values from {darkest:g} to {brightest:g}: "
            "what is black and white cannot be known; scale it to 8 bits",
        )
    white = next(white for white in whites if brightest <= white)
    if 0 < brightest < white * DARKEST_WHITE:
        raise UnusableImage(
            "undecodable",
            f"a grey image with values up to {brightest:g}: whether white is {white} cannot be "
            "known; scale it to 8 bits",
        )
    return white


def _read_tag(opened: ImageFile.ImageFile, tag: int) -> Any:
    """A tag of a TIFF; None where it has none, or is no TIFF."""
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        return opened.tag_v2.get(tag)
    return None


def _is_signed(opened: ImageFile.ImageFile) -> bool:
    return SIGNED in (_read_tag(opened, SAMPLE_FORMAT) or ())
