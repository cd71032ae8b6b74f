"""Files that belong together by their names: an image, its caption in `.txt`, its meta in `.json`.

In a tar what stands before the first dot of a file's name is the sample's key, and what comes after
is its ending, as WebDataset has it. In a folder the ending is what follows the last dot.
"""

import codecs
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.units import Sample, readable_name

DECODED_ENDINGS = (
    *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp"),
    *("gif", "bmp", "dib", "tif", "tiff", "avif", "mpo", "jp2", "j2k"),
)
# Images too: each becomes a row, which fails and says why unless its content is of another format.
OTHER_IMAGE_ENDINGS = (
    *("heic", "heif", "hif", "jxl", "jpx", "jpf", "ppm", "pgm", "pbm", "pnm"),
    *("tga", "ico", "psd", "svg"),
)
# Not decoded even where Pillow could: it would take the preview in them for the photograph.
RAW_ENDINGS = ("dng", "cr2", "cr3", "nef", "arw", "orf", "rw2", "raf")
IMAGE_ENDINGS = frozenset((*DECODED_ENDINGS, *OTHER_IMAGE_ENDINGS, *RAW_ENDINGS))
CAPTION_ENDING, META_ENDING = "txt", "json"

MAX_FILE_BYTES = 2**30
"""A larger file is not read: the largest image that is decoded has fewer bytes than this."""


def split_member_name(path: str) -> tuple[str, str]:
    """The key and the lower-case ending of a file in a tar."""
    folder, slash, name = readable_name(path).rpartition("/")
    stem, _, ending = name.partition(".")
    return folder + slash + stem, ending.lower()


def split_file_name(name: str) -> tuple[str, str]:
    """The key and the lower-case ending of a file in a folder."""
    stem, dot, ending = readable_name(name).rpartition(".")
    return (stem, ending.lower()) if dot else (ending, "")


def is_image_name(name: str) -> bool:
    return split_file_name(name)[1] in IMAGE_ENDINGS


class Endings(NamedTuple):
    """The endings of what is read in a tar."""

    images: frozenset[str]
    caption: str
    meta: str

    def are_read(self, ending: str) -> bool:
        return ending in self.images or ending in (self.caption, self.meta)


def choose_endings(layout: Layout) -> Endings:
    """The endings that the layout names, else the usual ones."""

    def clean(ending: str) -> str:
        return ending.lstrip(".").lower()

    return Endings(
        images=frozenset((clean(layout.image),)) if layout.image else IMAGE_ENDINGS,
        caption=clean(layout.caption or CAPTION_ENDING),
        meta=clean(layout.meta or META_ENDING),
    )


def explain_unread(name: str, size: int) -> str | None:
    """Why a file of this name and size is not read, or None."""
    name = readable_name(name)
    if split_file_name(name)[1] in RAW_ENDINGS:
        return f"unsupported: {name} is a camera's raw file; convert it to JPEG, PNG or WebP"
    if size > MAX_FILE_BYTES:
        return f"too_large: {name} has {size:,} bytes, over {MAX_FILE_BYTES:,}"
    return None


def explain_no_image(endings: Iterable[str]) -> str:
    """Why a sample of a tar with files of these endings has no image."""
    return (
        f"no_image: the sample has {', '.join(sorted(name or 'nothing' for name in endings))}, and "
        "none is an image's ending, which begins at the first dot; --layout.image names another"
    )


def make_sample(key: str, content: Mapping[str, bytes], endings: Endings) -> Sample:
    """The sample of some files of a tar.

    Args:
        key: of the sample.
        content: of each file, by its ending.
        endings: of the image, its caption and its meta.
    """
    image = next((content[name] for name in content if name in endings.images), None)
    return Sample(
        key=key,
        image=image,
        caption=decode_text(content.get(endings.caption)),
        meta=decode_text(content.get(endings.meta)),
        error=explain_no_image(content) if image is None else None,
    )


def decode_text(content: bytes | None) -> str | None:
    """A text without its byte order mark; UTF-8 unless the mark says UTF-16."""
    if content is None:
        return None
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig", errors="replace")
