"""Folders of image files, with `.txt` and `.json` beside them as img2dataset writes them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from c3l_ray.inputs.formats import members
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.units import Sample, SampleStart, Shard, ShardEnd, Unit
from c3l_ray.storage import Location

READ_EXTENSIONS = (*members.IMAGE_EXTENSIONS, "txt", "json")


def find_samples(
    location: Location, shard: Shard, layout: Layout
) -> Iterator[SampleStart | ShardEnd]:
    """The samples of a folder in the order of their names, then its end."""
    number = position = 0
    for key, files, size in group_files(location.fs.ls(location.path, detail=True)):
        yield SampleStart(key=key, start=number, position=position, files=files)
        number += 1
        position += size
    yield ShardEnd(end=number, position=position)


def group_files(listing: list[dict[str, Any]]) -> list[tuple[str, dict[str, str], int]]:
    """(key, file by extension, bytes) of each sample with an image, by name."""
    files_of: dict[str, dict[str, str]] = {}
    sizes: dict[str, int] = {}
    for info in sorted(listing, key=lambda info: str(info["name"])):
        name = info["name"].rpartition("/")[2]
        key, extension = members.split_name(name)
        if info["type"] == "file" and extension in READ_EXTENSIONS and not members.is_hidden(name):
            files_of.setdefault(key, {})[extension] = name
            sizes[key] = sizes.get(key, 0) + info["size"]
    return [
        (key, files, sizes[key])
        for key, files in files_of.items()
        if any(extension in files for extension in members.IMAGE_EXTENSIONS)
    ]


def read_samples(location: Location, unit: Unit, layout: Layout) -> Iterator[Sample]:
    """The samples of a unit; a file that is gone since is a failed row."""

    def read_sample(files: dict[str, str]) -> Sample:
        key = members.split_name(next(iter(files.values())))[0]
        try:
            content = {extension: (location / name).read() for extension, name in files.items()}
        except (FileNotFoundError, PermissionError) as error:
            return Sample(key=key, error=f"unreadable: {type(error).__name__}: {error}")
        return members.make_sample(key, content)

    with ThreadPoolExecutor(16) as readers:
        yield from readers.map(read_sample, unit.files)
