"""Files that belong together by their names, as WebDataset and img2dataset write them.

What stands before the first dot of a file's name is the sample's key; what comes after is the
extension. `000.jpg`, `000.txt` and `000.json` are one sample: image, caption and meta.
"""

from collections.abc import Mapping

from c3l_ray.inputs.units import Sample, readable_name

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")


def split_name(path: str) -> tuple[str, str]:
    """The key and the lower-case extension of a file."""
    folder, slash, name = readable_name(path).rpartition("/")
    stem, _, extension = name.partition(".")
    return folder + slash + stem, extension.lower()


def is_hidden(path: str) -> bool:
    return path.rpartition("/")[2].startswith(".")


def make_sample(key: str, content: Mapping[str, bytes]) -> Sample:
    """The sample of some files.

    Args:
        key: of the sample.
        content: of each file, by extension.
    """
    image = next((content[name] for name in IMAGE_EXTENSIONS if name in content), None)
    error = None
    if image is None:
        extensions = ", ".join(sorted(content)) or "nothing"
        error = f"no_image: the sample has {extensions}, and no jpg, png or webp"
    return Sample(
        key=key,
        image=image,
        caption=decode_text(content.get("txt")),
        meta=decode_text(content.get("json")),
        error=error,
    )


def decode_text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8", errors="replace")
