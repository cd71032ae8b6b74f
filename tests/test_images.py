import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFile

from c3l_ray import images
from c3l_ray.errors import UnusableImage
from c3l_ray.images import decode_image, make_baseline_image

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
    ],
)
def test_bytes_that_are_no_image_say_so(data: bytes | None, error: str) -> None:
    with pytest.raises(UnusableImage, match=error):
        decode_image(data, MILLION)


def test_avif_is_read_and_heic_says_what_to_do(encoded: Encoded) -> None:
    assert decode_image(encoded(format_="AVIF"), MILLION).size == (40, 30)
    with pytest.raises(UnusableImage, match=r"^unsupported: HEIC; convert it to JPEG"):
        decode_image(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100), MILLION)


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


def test_animated_images_give_their_first_frame() -> None:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 6), (shade, shade, shade)) for shade in (10, 200)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(buffer.getvalue(), MILLION).getpixel((0, 0)) == (10, 10, 10)
