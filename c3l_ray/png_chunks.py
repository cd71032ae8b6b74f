"""Looks through a PNG's chunks before Pillow does, which refuses fine pixels for what lies beside.

A PNG is a row of chunks: image data, and side information such as texts and colour profiles. Pillow
refuses a file with a text or profile of over 1 MB (Photoshop and ComfyUI write them), and for a
wrong checksum in any chunk before the image data. It does not see one in the image data itself.
Source: the PNG specification, https://www.w3.org/TR/png-3/.
"""

import zlib

from PIL.PngImagePlugin import MAX_TEXT_CHUNK, MAX_TEXT_MEMORY

from c3l_ray.errors import UnusableImage

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
TRANSPARENCY = b"tRNS"
ANCILLARY = 0x20
"""The bit of a chunk's first letter that says that pixels do not depend on it, but for tRNS."""


def drop_refused_chunks(data: bytes) -> bytes:
    """A PNG without the side information that Pillow refuses; the bytes as they are without any.

    Texts and profiles go where one unpacks to over 1 MB, or all together to over 64 MB; so does
    side information whose checksum is wrong. None is unpacked further than that. A file that breaks
    off stays as it is from there on, for the decoder to tell.

    Raises:
        UnusableImage: `undecodable`, for a wrong checksum in what pixels depend on.
    """
    chunks = memoryview(data)
    kept = [chunks[: len(SIGNATURE)]]
    position, text_bytes = len(SIGNATURE), 0
    is_dropped = False
    while (end := _find_chunk_end(data, position)) is not None:
        name, body = data[position + 4 : position + 8], chunks[position + 8 : end - 4]
        keeps = True
        if zlib.crc32(body, zlib.crc32(name)) != int.from_bytes(data[end - 4 : end]):
            if not name[0] & ANCILLARY or name == TRANSPARENCY:
                raise UnusableImage(
                    "undecodable", f"PNG: the checksum of its {name.decode()} chunk is wrong"
                )
            keeps = False
        elif name in TEXT_CHUNKS:
            num_bytes = _measure_text(name, bytes(body))
            keeps = num_bytes is not None and text_bytes + num_bytes <= MAX_TEXT_MEMORY
            text_bytes += num_bytes if keeps and num_bytes else 0
        if keeps:
            kept.append(chunks[position:end])
        is_dropped = is_dropped or not keeps
        position = end
    return b"".join([*kept, chunks[position:]]) if is_dropped else data


def _find_chunk_end(data: bytes, position: int) -> int | None:
    """Where a whole chunk that begins here ends; None where there is none, or it is no chunk."""
    end = position + 12 + int.from_bytes(data[position : position + 4])
    is_whole = position + 12 <= len(data) and end <= len(data)
    return end if is_whole and data[position + 4 : position + 8].isalpha() else None


def _measure_text(name: bytes, body: bytes) -> int | None:
    """The bytes that a text or profile unpacks to, or None where Pillow refuses it."""
    keyword, _, rest = body.partition(b"\0")
    if keyword == b"transparency":  # Pillow would take the text for that of the image
        return None
    if name == b"tEXt":
        return len(rest)
    if name == b"iTXt":
        is_packed, method = rest[:1] not in (b"", b"\0"), rest[1:2]
        text = rest[2:].split(b"\0", 2)[-1]
        return _measure_packed(text) if is_packed and method == b"\0" else len(text)
    return _measure_packed(rest[1:]) if rest[:1] == b"\0" else None


def _measure_packed(packed: bytes) -> int | None:
    """The bytes that a stream unpacks to, or None where it is over Pillow's bound."""
    stream = zlib.decompressobj()
    try:
        num_bytes = len(stream.decompress(packed, MAX_TEXT_CHUNK))
    except zlib.error:  # which Pillow passes over
        return 0
    return None if stream.unconsumed_tail else num_bytes
