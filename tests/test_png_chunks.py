"""PNGs whose pixels are fine, whatever lies beside them: decoded, and none unpacked without end."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from c3l_ray.errors import UnusableImage
from c3l_ray.images import decode_image
from c3l_ray.png_chunks import drop_refused_chunks
from tests.examples import EncodeImage

MEGABYTES = 1_000_000
HEADER_END = 33  # of the signature and the IHDR chunk


def make_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def pack(num_bytes: int) -> bytes:
    return zlib.compress(b"x" * num_bytes)


LARGE = {
    "a profile": make_chunk(b"iCCP", b"icc\0\0" + pack(2 * MEGABYTES)),
    "a packed text": make_chunk(b"zTXt", b"Raw profile\0\0" + pack(2 * MEGABYTES)),
    "XMP": make_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + pack(2 * MEGABYTES)),
    "a translated text": make_chunk(b"iTXt", b"k\0\1\0en\0key\0" + pack(2 * MEGABYTES)),
    "many texts": make_chunk(b"zTXt", b"k\0\0" + pack(MEGABYTES)) * 70,
    "a plain text": make_chunk(b"tEXt", b"prompt\0" + b"x" * 70 * MEGABYTES),
    "another method": make_chunk(b"zTXt", b"k\0\5abc"),
    "a wrong checksum": make_chunk(b"tEXt", b"a\0b")[:-4] + bytes(4),
    "the name of a field of Pillow": make_chunk(b"tEXt", b"transparency\0text"),
}
SMALL = {
    "a plain text": make_chunk(b"tEXt", b"prompt\0" + b"x" * 2 * MEGABYTES),
    "a packed text": make_chunk(b"zTXt", b"k\0\0" + pack(MEGABYTES)),
    "a broken profile": make_chunk(b"iCCP", b"icc\0\0no stream"),
    "an empty text": make_chunk(b"iTXt", b""),
    "an unknown chunk": make_chunk(b"prVt", b"abc"),
}


def insert(png: bytes, chunk: bytes, *, is_after_pixels: bool) -> bytes:
    place = len(png) - 12 if is_after_pixels else HEADER_END
    return png[:place] + chunk + png[place:]


@pytest.mark.parametrize("is_after_pixels", [False, True])
@pytest.mark.parametrize("name", LARGE)
def test_what_pillow_refuses_beside_the_pixels_is_dropped(
    encoded: EncodeImage, name: str, is_after_pixels: bool
) -> None:
    png = encoded()
    data = insert(png, LARGE[name], is_after_pixels=is_after_pixels)
    pixels = np.asarray(decode_image(data, MEGABYTES))
    assert np.array_equal(pixels, np.asarray(decode_image(png, MEGABYTES)))
    if name != "many texts":  # of which those are kept that fit together
        assert drop_refused_chunks(data) == png


@pytest.mark.parametrize("is_after_pixels", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_what_pillow_takes_stays_as_it_is(
    encoded: EncodeImage, name: str, is_after_pixels: bool
) -> None:
    data = insert(encoded(), SMALL[name], is_after_pixels=is_after_pixels)
    assert drop_refused_chunks(data) is data
    Image.open(io.BytesIO(data)).load()


def test_a_rotation_in_xmp_is_kept(encoded: EncodeImage) -> None:
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    chunk = make_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    data = insert(encoded(), chunk, is_after_pixels=False)
    assert decode_image(data, MEGABYTES).size == (30, 40)


def test_a_text_that_unpacks_to_hundreds_of_megabytes_takes_little_memory(
    encoded: EncodeImage,
) -> None:
    stream = zlib.compressobj()
    packed = b"".join(stream.compress(bytes(MEGABYTES)) for _ in range(200)) + stream.flush()
    data = insert(encoded(), make_chunk(b"zTXt", b"k\0\0" + packed), is_after_pixels=False)
    tracemalloc.start()
    assert drop_refused_chunks(data) == encoded()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * MEGABYTES


@pytest.mark.parametrize("name", ["IHDR", "IDAT", "PLTE", "tRNS"])
def test_a_wrong_checksum_of_what_pixels_depend_on_is_told(encoded: EncodeImage, name: str) -> None:
    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(encoded())).convert("P")
    image.save(buffer, "PNG", transparency=bytes(range(256)))
    data = bytearray(buffer.getvalue())
    data[data.index(name.encode()) + 5] ^= 1
    with pytest.raises(
        UnusableImage, match=f"^undecodable: PNG: the checksum of its {name} chunk is wrong$"
    ):
        decode_image(bytes(data), MEGABYTES)


@pytest.mark.parametrize("length", range(8, 90, 3))
def test_a_png_that_breaks_off_is_told_by_the_decoder(encoded: EncodeImage, length: int) -> None:
    with pytest.raises(UnusableImage, match=r"^undecodable: (?!not an image)"):
        decode_image(encoded()[:length], MEGABYTES)
