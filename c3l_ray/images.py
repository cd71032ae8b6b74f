"""Decodes images: one decoder and one size bound for generator, scoring model and CLIP alike."""

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal, NamedTuple

from PIL import ExifTags, Image, ImageFile, ImageFilter, ImageOps, UnidentifiedImageError, features

from c3l_ray.errors import UnusableImage
from c3l_ray.grey_depths import is_deep_grey, prepare_tiff, scale_grey
from c3l_ray.png_chunks import SIGNATURE, drop_refused_chunks

with suppress(ImportError):  # an extra, for HEIC
    import pillow_heif

    pillow_heif.register_heif_opener()

MAX_SOURCE_PIXELS = 100_000_000
"""An image of more pixels is refused before it is decoded: it would take over 300 MB."""

MAX_WEBP_PIXELS = 50_000_000
"""The same of a WebP, whose decoder holds four copies of the image."""

MAX_SCANNED_PIXELS = 3_000_000_000
"""Pixels times scans of a JPEG: each scan of a progressive one passes over all of them, and takes
about a second for a billion. Ten scans are usual."""

STRIP_ROWS = 256
"""Rows of an image that are laid on white at once: four copies of a large one take 2 GB."""

MAX_ASPECT = 100
"""A longer and thinner image is refused: models scale its short side up, and the long one too."""

IMAGE_FORMATS = (
    *("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP"),
    *(("HEIF",) if "HEIF" in Image.OPEN else ()),
)
"""The formats that are decoded. Pillow reads more, some through other programs. MPO is JPEG."""

BLUR_RATIO = 8
"""An image's longer side over the standard deviation of the blur that makes it a baseline."""

HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
JPEG_2000_SIGNATURES = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
START_OF_SCAN = b"\xff\xda"
PNG_EXIF = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
PLAIN_MODES = ("RGB", "L", "P", "1")


class StoredImage(NamedTuple):
    """How an image lies in its file.

    Attributes:
        format: Pillow's name of it.
        is_plain: whether `Image.open(...).convert("RGB")` shows what `decode_image` does: 8 bits,
            RGB, grey or palette, upright, opaque, readable by Pillow alone.
        color_profile: ICC profile of its RGB values, or None.
    """

    format: str
    is_plain: bool
    color_profile: bytes | None


def decode_image(data: bytes | None, max_pixels: int) -> Image.Image:
    """An image as RGB, upright, and shrunk to at most `max_pixels` with its proportions kept.

    The first frame of an animation; transparency lies on white; greys of more than 8 bits are
    scaled to 8 (`grey_depths`).

    Raises:
        UnusableImage: `no_image`, `empty`, `too_large`, `too_narrow`, `unsupported`, or
            `undecodable` with the decoder's words.
    """
    if data is None:
        raise UnusableImage("no_image", "the sample has no jpg, jpeg, png or webp")
    if not data:
        raise UnusableImage("empty", "the image has no bytes")
    with _open_image(_drop_refused_chunks(data)) as opened:
        width, height = opened.size
        max_source = MAX_WEBP_PIXELS if opened.format == "WEBP" else MAX_SOURCE_PIXELS
        if width * height > max_source:
            raise UnusableImage("too_large", f"{width} x {height} pixels, over {max_source:,}")
        if opened.format in ("JPEG", "MPO"):
            _check_scans(data, width * height)
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise UnusableImage("too_narrow", f"{width} x {height} pixels")
        prepare_tiff(opened)
        opened.draft("RGB", _fit_size(opened.size, max_pixels))
        ImageOps.exif_transpose(opened, in_place=True)
        image = _to_rgb(opened)
        size = _fit_size(image.size, max_pixels)
        if size != image.size:
            return image.resize(size, Image.Resampling.BICUBIC)
        return image.copy() if image is opened else image


def _check_scans(data: bytes, num_pixels: int) -> None:
    """Refuses a JPEG that would take minutes."""
    num_scans = data.count(START_OF_SCAN)
    if num_scans * num_pixels > MAX_SCANNED_PIXELS:
        raise UnusableImage(
            "too_large",
            f"a JPEG of {num_scans:,} scans of {num_pixels:,} pixels, over {MAX_SCANNED_PIXELS:,} "
            "pixels together",
        )


def inspect_image(data: bytes) -> StoredImage:
    """How an image lies in its file, of which little more than the header is read.

    Raises:
        UnusableImage: as `decode_image`.
    """
    readable = _drop_refused_chunks(data)
    with _open_image(readable) as opened:
        format_ = str(opened.format)
        is_plain = (
            opened.mode in PLAIN_MODES
            and not opened.has_transparency_data
            and not _is_rotated(opened, data)
            and format_ != "HEIF"
            and readable is data
        )
        profile = opened.info.get("icc_profile") if opened.mode in ("RGB", "RGBA") else None
    return StoredImage(format_, is_plain, profile)


def read_format(data: bytes) -> str:
    """Pillow's name of the format of an image that it reads without help.

    Raises:
        UnusableImage: as `decode_image`.
    """
    with _open_image(data) as opened:
        return str(opened.format)


def _is_rotated(opened: ImageFile.ImageFile, data: bytes) -> bool:
    if opened.format == "PNG" and not any(name in data for name in PNG_EXIF):
        return False  # Pillow decodes a PNG to find out
    return opened.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)


def _drop_refused_chunks(data: bytes) -> bytes:
    """The bytes without what Pillow refuses a PNG for; those of other formats as they are."""
    return drop_refused_chunks(data) if data.startswith(SIGNATURE) else data


@contextmanager
def _open_image(data: bytes) -> Iterator[ImageFile.ImageFile]:
    """The image's file, read as far as its header; what goes wrong with it is an UnusableImage."""
    try:
        with warnings.catch_warnings():
            # Our own bound is lower than the one Pillow warns of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as opened:
                yield opened
    except UnusableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnusableImage("too_large", str(error)) from error
    except Exception as error:  # Pillow's plugins raise a dozen kinds on bytes made by strangers
        raise _explain_failure(data, error) from error


def _explain_failure(data: bytes, error: Exception) -> UnusableImage:
    """Why an image cannot be decoded: a format that this Pillow lacks, or the decoder's words."""
    brands = {data[start : start + 4] for start in range(8, min(int.from_bytes(data[:4]), 80), 4)}
    if data[4:8] == b"ftyp" and brands & AVIF_BRANDS:
        if not features.check("avif"):
            return _name_missing_format("AVIF", "pillow 11.3 or later")
    elif data[4:8] == b"ftyp" and brands & HEIC_BRANDS:
        if "HEIF" not in IMAGE_FORMATS:
            return _name_missing_format("HEIC", "pillow-heif")
    elif data.startswith(JPEG_2000_SIGNATURES) and not features.check("jpg_2000"):
        return _name_missing_format("JPEG 2000", "a pillow with OpenJPEG")
    if not isinstance(error, UnidentifiedImageError):
        return UnusableImage("undecodable", f"{type(error).__name__}: {error}")
    for name in IMAGE_FORMATS:
        open_format, accepts = Image.OPEN[name]
        if accepts is not None and accepts(data[:16]) is True:
            try:
                open_format(io.BytesIO(data), "")
            except Exception as cause:  # as above
                return UnusableImage("undecodable", f"{name} that cannot be read: {cause}")
    return UnusableImage(
        "undecodable", f"not an image of a known format; it begins with {data[:12]!r}"
    )


def _name_missing_format(name: str, library: str) -> UnusableImage:
    return UnusableImage(
        "unsupported",
        f"{name}; convert it to JPEG, PNG or WebP, or install {library} on every node",
    )


def _fit_size(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    width, height = size
    scale = math.sqrt(max_pixels / (width * height))
    if scale >= 1:
        return size
    return max(1, math.floor(width * scale)), max(1, math.floor(height * scale))


def _to_rgb(opened: ImageFile.ImageFile) -> Image.Image:
    if is_deep_grey(opened.mode):
        return scale_grey(opened, opened).convert("RGB")
    if opened.has_transparency_data:
        return _lay_on_white(opened)
    return opened if opened.mode == "RGB" else opened.convert("RGB")


def _lay_on_white(image: Image.Image) -> Image.Image:
    opaque = Image.new("RGB", image.size)
    for top in range(0, image.height, STRIP_ROWS):
        box = (0, top, image.width, min(top + STRIP_ROWS, image.height))
        strip = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        opaque.paste(Image.alpha_composite(white, strip).convert("RGB"), box)
    return opaque


def make_baseline_image(image: Image.Image, baseline: Literal["grey", "blur"]) -> Image.Image:
    """An image of the same size that tells nothing, to take the image's place.

    Args:
        image: the image to replace.
        baseline: "grey" is grey all over; "blur" keeps the light of the whole and loses its things.
    """
    if baseline == "grey":
        return Image.new("RGB", image.size, (128, 128, 128))
    return image.filter(ImageFilter.GaussianBlur(max(image.size) / BLUR_RATIO))
