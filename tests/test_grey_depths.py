"""Greys of every depth come out as the same gradient, or are refused: never black, never noise."""

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from c3l_ray.errors import UnusableImage
from c3l_ray.images import decode_image

GRADIENT = np.linspace(0, 1, 400).reshape(20, 20)
EXPECTED = 255 * GRADIENT


def encode_tiff(values: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def decode_grey(data: bytes) -> NDArray[np.float64]:
    decoded = np.asarray(decode_image(data, 10**6), dtype=np.float64)
    assert (decoded[..., 0] == decoded[..., 1]).all() and (decoded[..., 0] == decoded[..., 2]).all()
    return decoded[..., 0]


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    ("type_", "white"),
    [
        *[(np.float32, white) for white in (1, 255, 65_535)],
        *[(np.uint16, white) for white in (255, 65_535)],
        *[(np.int16, white) for white in (255, 32_767)],
        *[(np.uint32, white) for white in (255, 65_535, 2**32 - 1)],
        *[(np.int32, white) for white in (255, 65_535, 2**31 - 1)],
    ],
)
def test_a_grey_tiff_of_any_depth_keeps_its_shades(
    type_: type[Any], white: int, compression: Any, byte_order: Any
) -> None:
    values = (GRADIENT * white).astype(type_)
    data = encode_tiff(values, compression=compression, byteorder=byte_order)
    if type_ is np.uint32 and byte_order == ">":  # of which Pillow reads none
        with pytest.raises(UnusableImage, match=r"^undecodable: TIFF that cannot be read: "):
            decode_grey(data)
    else:
        assert np.abs(decode_grey(data) - EXPECTED).max() <= 1


@pytest.mark.parametrize("type_", [np.uint8, np.uint16, np.float32])
def test_where_zero_is_white_the_shades_are_turned(type_: type[Any]) -> None:
    white = 1 if type_ is np.float32 else np.iinfo(type_).max
    data = encode_tiff((GRADIENT * white).astype(type_), photometric="miniswhite")
    assert np.abs(decode_grey(data) - EXPECTED[::-1, ::-1]).max() <= 1


def test_twelve_bits_that_are_declared_are_scaled() -> None:
    values = np.round(GRADIENT * 4095).astype(np.uint16)
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(20, 20, 2), axis=2)
    tags = [
        *[(256, 4, 1, 20), (257, 4, 1, 20), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1)],
        *[(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 20), (279, 4, 1, 600)],
    ]
    entries = b"".join(
        number.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + count.to_bytes(4, "little")
        + value.to_bytes(4, "little")
        for number, kind, count, value in tags
    )
    pixels = np.packbits(bits[..., 4:].reshape(20, -1), axis=1).tobytes()
    directory = len(tags).to_bytes(2, "little") + entries + bytes(4)
    data = b"II*\0" + (8 + len(pixels)).to_bytes(4, "little") + pixels + directory
    assert np.abs(decode_grey(data) - EXPECTED).max() <= 1


def test_sixteen_bits_of_colour_are_scaled() -> None:
    values = np.stack([GRADIENT, GRADIENT.T, 1 - GRADIENT], axis=2)
    data = encode_tiff((values * 65_535).astype(np.uint16), photometric="rgb")
    assert np.abs(np.asarray(decode_image(data, 10**6)) - 255 * values).max() <= 1


def test_a_transparent_shade_of_sixteen_bits_is_white() -> None:
    values = (GRADIENT * 65_535).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", transparency=int(values[0, 3]))
    decoded = decode_grey(buffer.getvalue())
    assert decoded[0, 3] == 255
    assert np.abs(np.delete(decoded, 3) - np.delete(EXPECTED, 3)).max() <= 1


def test_an_image_of_zeros_is_black() -> None:
    assert decode_grey(encode_tiff(np.zeros((8, 8), np.uint16))).max() == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((GRADIENT * 4095).astype(np.uint16), "values up to 4095: whether white is 65535"),
        ((GRADIENT * 4095).astype(np.int32), "values up to 4095: whether white is 65535"),
        ((GRADIENT * 10**7).astype(np.uint32), "values up to 1e+07: whether white is 4294967295"),
        ((GRADIENT * 3).astype(np.float32), "values up to 3: whether white is 255"),
        ((GRADIENT * 0.01).astype(np.float32), "values up to 0.01: whether white is 1 cannot"),
        ((GRADIENT * 10**6).astype(np.float32), "values from 0 to 1e+06: what is black and white"),
        ((GRADIENT - 0.5).astype(np.float32), "values from -0.5 to 0.5: what is black and white"),
        ((GRADIENT * 99 - 9).astype(np.int16), "values from -9 to 90: what is black and white"),
        (np.where(GRADIENT < 0.5, GRADIENT, np.nan).astype(np.float32), "that are not finite"),
        (np.where(GRADIENT < 0.5, GRADIENT, -np.inf).astype(np.float32), "that are not finite"),
        ((GRADIENT * 100).astype(np.int8), "TIFF of signed 8-bit values"),
        (GRADIENT, "TIFF that cannot be read: unknown pixel mode"),
        (GRADIENT.astype(np.float16), "TIFF that cannot be read: unknown pixel mode"),
    ],
)
def test_where_white_cannot_be_known_an_image_is_refused(values: ArrayLike, message: str) -> None:
    with pytest.raises(UnusableImage, match=r"^undecodable: ") as refusal:
        decode_image(encode_tiff(np.asarray(values)), 10**6)
    assert message in str(refusal.value)
