"""What a loader shows that ignores EXIF and depth is what the scoring model saw."""

import io
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from c3l_ray.dataset.image_export import export_image
from c3l_ray.dataset.select import select_turns
from c3l_ray.errors import C3LError
from c3l_ray.images import decode_image
from c3l_ray.select_config import SelectConfig
from tests.dataset.runs import ALL_TURNS, WriteRun, make_turn, read_rows
from tests.examples import EncodeImage
from tests.test_png_chunks import LARGE, insert, make_chunk

MILLION = 1_000_000
SHADES = np.linspace(0, 1, 1200).reshape(30, 40)


def encode(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def make_picture() -> Image.Image:
    """Other shades in every corner and channel, of 40 x 30 pixels."""
    channels = [Image.fromarray((255 * shades).astype(np.uint8)) for shades in (SHADES, 1 - SHADES)]
    return Image.merge("RGB", [*channels, channels[0].transpose(Image.Transpose.ROTATE_180)])


def load_as_llava_does(data: bytes) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.float64)


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def make_translucent() -> Image.Image:
    image = make_picture().convert("RGBA")
    image.putalpha(128)
    return image


XMP = make_chunk(
    b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b'<x tiff:Orientation="6"/>')
)
DIFFERENT = {
    "a PNG rotated in XMP": insert(encode(make_picture(), "PNG"), XMP, is_after_pixels=True),
    "a rotated JPEG": encode(make_picture(), "JPEG", exif=rotated()),
    "a rotated PNG": encode(make_picture(), "PNG", exif=rotated()),
    "a rotated WebP": encode(make_picture(), "WEBP", exif=rotated()),
    "16-bit grey": encode(Image.fromarray((SHADES * 65_535).astype(np.uint16)), "PNG"),
    "32-bit grey": encode(Image.fromarray((SHADES * 65_535).astype(np.int32)), "TIFF"),
    "floats": encode(Image.fromarray(SHADES.astype(np.float32)), "TIFF"),
    "an inked JPEG": encode(make_picture().convert("CMYK"), "JPEG"),
    "an inked TIFF": encode(make_picture().convert("CMYK"), "TIFF"),
    "a translucent PNG": encode(make_translucent(), "PNG"),
    "a transparent palette": encode(make_picture().quantize(8), "PNG", transparency=0),
    **{
        f"a PNG with {name}": insert(
            encode(make_picture(), "PNG"), LARGE[name], is_after_pixels=False
        )
        for name in ("a profile", "a wrong checksum")
    },
}
ALIKE = {
    "a JPEG": encode(make_picture(), "JPEG", exif=Image.Exif(), icc_profile=b"profile"),
    "a grey JPEG": encode(make_picture().convert("L"), "JPEG"),
    "a PNG": encode(make_picture(), "PNG"),
    "a palette": encode(make_picture().quantize(8), "PNG"),
    "bits": encode(make_picture().convert("1"), "PNG"),
    "a WebP": encode(make_picture(), "WEBP"),
    "a GIF": encode(make_picture(), "GIF"),
    "a TIFF": encode(make_picture(), "TIFF"),
    "an AVIF": encode(make_picture(), "AVIF"),
    "JPEG 2000": encode(make_picture(), "JPEG2000"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_decodes_differently_is_written_as_decoded(name: str) -> None:
    data = DIFFERENT[name]
    exported = export_image(data)
    assert exported != data
    shown, seen = load_as_llava_does(exported), np.asarray(decode_image(data, MILLION), np.float64)
    assert shown.shape == seen.shape
    with Image.open(io.BytesIO(exported)) as opened:
        is_jpeg = name.endswith("JPEG")
        assert opened.format == ("JPEG" if is_jpeg else "PNG")
        assert not opened.getexif()
    assert np.abs(shown - seen).max() <= (8 if is_jpeg else 0)
    assert np.abs(shown - seen).mean() <= (1 if is_jpeg else 0)
    assert np.array_equal(np.asarray(decode_image(exported, MILLION)), shown)
    assert export_image(exported) is exported


@pytest.mark.parametrize("name", ALIKE)
def test_what_decodes_as_it_lies_keeps_its_bytes(name: str) -> None:
    data = ALIKE[name]
    assert export_image(data) is data
    assert np.array_equal(load_as_llava_does(data), np.asarray(decode_image(data, MILLION)))


def test_a_color_profile_stays_with_colours_and_not_with_inks() -> None:
    for mode, profile in (("RGB", b"profile"), ("CMYK", None)):
        data = encode(make_picture().convert(mode), "JPEG", exif=rotated(), icc_profile=b"profile")
        with Image.open(io.BytesIO(export_image(data))) as opened:
            assert opened.info.get("icc_profile") == profile


def test_a_dataset_has_the_same_images_in_parquet_and_beside(
    write_run: WriteRun,
) -> None:
    images = [DIFFERENT["a rotated JPEG"], ALIKE["a PNG"], DIFFERENT["floats"]]
    path = write_run([[make_turn(0.3)], [make_turn(0.2)], [make_turn(0.1)]], images=images)
    report = select_turns(SelectConfig(input=str(path), top=ALL_TURNS, llava="images"))
    assert (report.images, report.rewritten_images, report.unusable_images) == (3, 2, 0)
    expected = [export_image(image) for image in images]
    assert [row["images"] for row in read_rows(path / "dataset")] == [
        [{"bytes": image, "path": None}] for image in expected
    ]
    files = {file.suffix: file.read_bytes() for file in (path / "dataset" / "images").iterdir()}
    assert files[".jpg"] == expected[0]
    assert sorted(file.name[-4:] for file in (path / "dataset" / "images").iterdir()) == [
        *(".jpg", ".png", ".png")
    ]


def test_images_that_cannot_be_decoded_here_are_left_out_and_counted(
    write_run: WriteRun, encoded: EncodeImage, caplog: pytest.LogCaptureFixture
) -> None:
    units = [[[make_turn(0.3)], [make_turn(0.2)]]]
    path = write_run(*units, images=[b"ftypheic", encoded()])
    report = select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
    assert (report.turns, report.images, report.unusable_images) == (1, 1, 1)
    assert "left out 1 images that cannot be decoded here, for example a.tar 0: " in caplog.text
    path = write_run(*units, images=[b"ftypheic", b"text"])
    with pytest.raises(C3LError, match="no image of a chosen turn can be decoded here"):
        select_turns(SelectConfig(input=str(path), top=ALL_TURNS))
