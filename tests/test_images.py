import io
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from c3l_ray import images
from c3l_ray.errors import UnusableImage
from c3l_ray.images import decode_image, inspect_image, make_baseline_image

Encoded = Callable[..., bytes]
MILLION = 1_000_000


@pytest.mark.parametrize(
    ("mode", "format_"),
    [
        ("RGB", "PNG"),
        ("RGB", "JPEG"),
        ("RGB", "WEBP"),
        ("L", "JPEG"),
        ("LA", "PNG"),
        ("RGBA", "PNG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("CMYK", "JPEG"),
        ("I;16", "PNG"),
    ],
)
def test_every_mode_becomes_rgb(encoded: Encoded, mode: str, format_: str) -> None:
    image = decode_image(encoded(mode=mode, format_=format_), MILLION)
    assert (image.mode, image.size) == ("RGB", (40, 30))


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 100, dtype=np.uint16).reshape(10, 10)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    decoded = np.asarray(decode_image(buffer.getvalue(), MILLION))
    assert abs(int(decoded[5, 0, 0]) - 129) <= 1
    assert len(np.unique(decoded)) > 90


def test_transparency_lies_on_white(encoded: Encoded) -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(buffer, "PNG")
    assert decode_image(buffer.getvalue(), MILLION).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("format_", "transparency"), [("GIF", 0), ("PNG", 0), ("PNG", bytes([0, 127]))]
)
def test_a_transparent_palette_lies_on_white(format_: str, transparency: int | bytes) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 0, 0, 255] + [0] * 42)
    image.putpixel((0, 0), 0)
    buffer = io.BytesIO()
    image.save(buffer, format_, transparency=transparency)
    decoded = decode_image(buffer.getvalue(), MILLION)
    assert decoded.getpixel((0, 0)) == (255, 255, 255)
    assert decoded.getpixel((1, 1)) == ((0, 0, 255) if transparency == 0 else (128, 128, 255))


@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
def test_inks_become_their_colours(format_: str) -> None:
    buffer = io.BytesIO()
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(buffer, format_)
    red = np.asarray(decode_image(buffer.getvalue(), MILLION), dtype=float)[8, 8]
    assert np.abs(red - (255, 0, 0)).max() <= 2


def test_rotation_in_the_exif_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    assert decode_image(buffer.getvalue(), MILLION).size == (20, 40)


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_large_images_shrink_to_the_bound_and_keep_their_shape(
    encoded: Encoded, format_: str
) -> None:
    image = decode_image(encoded(size=(400, 100), format_=format_), 10_000)
    assert image.width * image.height <= 10_000
    assert image.width / image.height == pytest.approx(4, rel=0.02)
    assert decode_image(encoded(size=(100, 100), format_=format_), 10_000).size == (100, 100)


def test_a_line_of_pixels_is_refused(encoded: Encoded) -> None:
    assert decode_image(encoded(size=(100, 1)), 50).size == (70, 1)
    with pytest.raises(UnusableImage, match=r"^too_narrow: 101 x 1 pixels"):
        decode_image(encoded(size=(101, 1)), 50)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (None, "no_image: the sample has"),
        (b"", "empty: the image has no bytes"),
        (b"this is text", "undecodable: not an image of a known format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(9), "undecodable: PNG that cannot be read: broken PNG file"),
        (b"II*\0" + bytes(9), "undecodable: TIFF that cannot be read: "),
        (b"GIF89a" + bytes(3), "undecodable: GIF that cannot be read: "),
        (b"\xff\xd8\xff" + bytes(9), "undecodable: JPEG that cannot be read: "),
    ],
)
def test_bytes_that_are_no_image_say_so(data: bytes | None, error: str) -> None:
    with pytest.raises(UnusableImage, match=error):
        decode_image(data, MILLION)


@pytest.mark.parametrize("format_", ["AVIF", "JPEG2000", "TIFF", "BMP", "GIF"])
def test_less_common_formats_are_read(encoded: Encoded, format_: str) -> None:
    decoded = np.asarray(decode_image(encoded(format_=format_), MILLION), dtype=float)
    expected = np.asarray(decode_image(encoded(), MILLION), dtype=float)
    assert np.abs(decoded - expected).max() <= 4


def test_heic_is_read_where_pillow_heif_is(encoded: Encoded) -> None:
    pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    data = encoded(format_="HEIF")
    assert data[4:8] == b"ftyp" and inspect_image(data).format == "HEIF"
    decoded = np.asarray(decode_image(data, MILLION), dtype=float)
    expected = np.asarray(decode_image(encoded(), MILLION), dtype=float)
    assert np.abs(decoded - expected).max() <= 6


HEIC = b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heic" + bytes(100)


@pytest.mark.parametrize(
    ("format_", "message"),
    [
        ("HEIC", "HEIC; convert it to JPEG, PNG or WebP, or install pillow-heif on every node"),
        ("AVIF", "AVIF; convert it to JPEG, PNG or WebP, or install pillow 11.3 or later on"),
        ("JPEG2000", "JPEG 2000; convert it to JPEG, PNG or WebP, or install a pillow with Open"),
    ],
)
def test_a_format_that_this_pillow_lacks_is_named(
    encoded: Encoded, format_: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = HEIC if format_ == "HEIC" else encoded(format_=format_)
    lacking = tuple(name for name in images.IMAGE_FORMATS if name not in (format_, "HEIF"))
    monkeypatch.setattr(images, "IMAGE_FORMATS", lacking)
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(UnusableImage, match=f"^unsupported: {message}"):
        decode_image(data, MILLION)


@pytest.mark.parametrize("num_bytes", [1, 2, 10])
def test_a_jpeg_that_lacks_its_end_is_undecodable(encoded: Encoded, num_bytes: int) -> None:
    with pytest.raises(UnusableImage, match=r"^undecodable: OSError: image file is truncated"):
        decode_image(encoded(format_="JPEG")[:-num_bytes], MILLION)


def test_a_hundred_megapixels_are_read_and_more_are_not() -> None:
    for side, outcome in (
        (10_000, None),
        (10_001, "too_large: 10001 x 10001 pixels"),
        (40_000, "too_large"),
    ):
        buffer = io.BytesIO()
        Image.new("1", (side, side)).save(buffer, "PNG")
        if outcome is None:
            assert decode_image(buffer.getvalue(), 10_000).size == (100, 100)
        else:
            with pytest.raises(UnusableImage, match=f"^{outcome}"):
                decode_image(buffer.getvalue(), 10_000)


def test_a_webp_takes_half_as_many_pixels() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (7100, 7100)).save(buffer, "WEBP", lossless=True, method=0)
    with pytest.raises(UnusableImage, match=r"^too_large: 7100 x 7100 pixels, over 50,000,000$"):
        decode_image(buffer.getvalue(), MILLION)


@pytest.mark.timeout(60)
def test_a_jpeg_of_so_many_scans_that_it_would_take_minutes_is_refused() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4000, 4000), "green").save(buffer, "JPEG", progressive=True)
    whole = buffer.getvalue()
    assert decode_image(whole, MILLION).size == (1000, 1000)
    last_scan = whole[whole.rindex(images.START_OF_SCAN) : -2]
    with pytest.raises(UnusableImage, match=r"^too_large: a JPEG of 3,010 scans of 16,000,000 "):
        decode_image(whole[:-2] + last_scan * 3000 + whole[-2:], MILLION)


@pytest.mark.parametrize("height", [1, 7, 8, 9, 30])
def test_a_transparent_image_in_strips_is_as_it_is_in_one(
    height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (height, 20, 4), dtype=np.uint8)
    image = Image.fromarray(values)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    white = Image.new("RGBA", image.size, "white")
    expected = np.asarray(Image.alpha_composite(white, image).convert("RGB"))
    monkeypatch.setattr(images, "STRIP_ROWS", 8)
    assert (np.asarray(decode_image(buffer.getvalue(), MILLION)) == expected).all()


PRINT_PEAK = """
import io, re
from PIL import Image
from c3l_ray.images import decode_image
buffer = io.BytesIO()
Image.new("{mode}", ({side}, {side})).save(buffer, "PNG")
open("/proc/self/clear_refs", "w").write("5")  # the peak from here on
decode_image(buffer.getvalue(), 1000)
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


@pytest.mark.parametrize(("mode", "copies"), [("RGB", 1.3), ("RGBA", 2.5), ("I;16", 2.0)])
def test_a_large_image_is_held_but_once_or_twice(mode: str, copies: float) -> None:
    """In a process of its own; Pillow holds four bytes of a pixel."""

    def measure_peak(side: int) -> int:
        code = PRINT_PEAK.format(mode=mode, side=side)
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        return 1024 * int(printed.stdout)

    side = 5000
    assert measure_peak(side) - measure_peak(50) < copies * 4 * side**2


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_image_is_undecodable(encoded: Encoded, format_: str) -> None:
    data = encoded(size=(300, 300), format_=format_)
    with pytest.raises(UnusableImage, match=r"^undecodable: "):
        decode_image(data[: len(data) // 2], MILLION)


def test_too_many_pixels_are_refused_before_decoding(
    encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded()
    monkeypatch.setattr(images, "MAX_SOURCE_PIXELS", 1000)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(UnusableImage, match=r"^too_large: 40 x 30 pixels, over 1,000"):
        decode_image(data, MILLION)


def test_a_baseline_image_keeps_the_size_and_loses_the_things() -> None:
    image = Image.new("RGB", (80, 60), "white")
    image.paste((0, 0, 0), (38, 28, 42, 32))
    grey, blurred = (np.asarray(make_baseline_image(image, name)) for name in ("grey", "blur"))
    assert grey.shape == blurred.shape == (60, 80, 3)
    assert np.all(grey == 128)
    assert blurred.min() > 200 and blurred.mean() == pytest.approx(np.asarray(image).mean(), abs=3)


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_animated_images_give_their_first_frame(format_: str) -> None:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 6), (shade, shade, shade)) for shade in (10, 200)]
    frames[0].save(buffer, format_, save_all=True, append_images=frames[1:])
    assert decode_image(buffer.getvalue(), MILLION).getpixel((0, 0)) == (10, 10, 10)
