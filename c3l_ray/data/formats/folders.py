"""Folders of image files, with `.txt` and `.json` beside them as img2dataset writes them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from c3l_ray.config import Layout
from c3l_ray.data.formats import members
from c3l_ray.data.units import End, Place, Sample, Shard, Unit

KEPT = (*members.IMAGE_EXTENSIONS, "txt", "json")


def walk(fs: Any, path: str, shard: Shard, layout: Layout) -> Iterator[Place | End]:
    """The samples of a folder in the order of their names, then its end."""
    number = position = 0
    for key, files, size in samples(fs.ls(path, detail=True)):
        yield Place(key=key, start=number, position=position, files=files)
        number += 1
        position += size
    yield End(end=number, position=position)


def samples(listing: list[dict[str, Any]]) -> list[tuple[str, dict[str, str], int]]:
    """(key, file by extension, bytes) of each sample with an image, by name."""
    found: dict[str, dict[str, str]] = {}
    sizes: dict[str, int] = {}
    for info in sorted(listing, key=lambda info: str(info["name"])):
        name = info["name"].rpartition("/")[2]
        key, extension = members.split(name)
        if info["type"] == "file" and extension in KEPT and not members.is_hidden(name):
            found.setdefault(key, {})[extension] = name
            sizes[key] = sizes.get(key, 0) + info["size"]
    return [
        (key, files, sizes[key])
        for key, files in found.items()
        if any(extension in files for extension in members.IMAGE_EXTENSIONS)
    ]


def read(fs: Any, path: str, unit: Unit, layout: Layout) -> Iterator[Sample]:
    """The samples of a unit; a file that is gone since is a failed row."""

    def read_sample(files: dict[str, str]) -> Sample:
        key = members.split(next(iter(files.values())))[0]
        try:
            content = {
                extension: fs.cat_file(f"{path}/{name}") for extension, name in files.items()
            }
        except (FileNotFoundError, PermissionError) as error:
            return Sample(key=key, error=f"unreadable: {type(error).__name__}: {error}")
        return members.sample(key, content)

    with ThreadPoolExecutor(16) as readers:
        yield from readers.map(read_sample, unit.files)
