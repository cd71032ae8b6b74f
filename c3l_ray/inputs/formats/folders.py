"""Folders of image files, with captions and meta beside them in files of their names.

`.txt` and `.json` beside an image are as img2dataset writes them; captions can also be listed in a
metadata file. Each image is a sample, also where several differ in their endings only.
"""

import errno
import posixpath
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from c3l_ray.inputs.formats import members, metadata
from c3l_ray.inputs.formats.image_files import ABSENT
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.listing import InputFile, is_hidden, list_folder
from c3l_ray.inputs.units import Sample, SampleStart, Shard, ShardEnd, Unit
from c3l_ray.storage import Location

SIDE_ENDINGS = (members.CAPTION_ENDING, members.META_ENDING)
# Beside the endings of its files, what is noted of a sample:
CAPTION, ERROR = "caption", "error"


def find_samples(
    location: Location, shard: Shard, layout: Layout
) -> Iterator[SampleStart | ShardEnd]:
    """The samples of a folder in the order of their names, then its end."""
    captions: dict[str, str] = {}
    damage = None
    if shard.metadata is not None:
        metadata_file = Location.connect(shard.metadata)
        captions, damage = metadata.read_captions(metadata_file, layout)
        inner = location.path.removeprefix(metadata_file.parent.path).lstrip("/")
        captions = {
            posixpath.basename(name): caption
            for name, caption in captions.items()
            if posixpath.dirname(name) == inner
        }
    number = position = 0
    for key, files, size in group_files(list_folder(location), shard.names):
        name = next(iter(files.values()))
        if name in captions and members.CAPTION_ENDING not in files:
            files[CAPTION] = captions[name]
        yield SampleStart(key=key, start=number, position=position, files=files)
        number += 1
        position += size
    yield ShardEnd(end=number, position=position, damage=damage)


def group_files(
    listing: list[InputFile], names: tuple[str, ...] | None = None
) -> list[tuple[str, dict[str, str], int]]:
    """(key, what is noted of it, bytes) of each image, by name; the image is noted first.

    Args:
        listing: of the folder's files, in the order of their names.
        names: of the images to take; by default all that are not hidden.
    """
    chosen = None if names is None else set(names)
    sides: dict[tuple[str, str], InputFile] = {}
    images = []
    for file in listing:
        key, ending = members.split_file_name(file.name)
        if ending in SIDE_ENDINGS:
            sides.setdefault((key, ending), file)
        elif ending in members.IMAGE_ENDINGS:
            is_chosen = not is_hidden(file.name) if chosen is None else file.name in chosen
            images += [(key, ending, file)] if is_chosen else []
    samples = []
    for key, ending, image in images:
        beside = {side: sides[key, side] for side in SIDE_ENDINGS if (key, side) in sides}
        files = {ending: image, **beside}
        reasons = [members.explain_unread(file.name, file.size) for file in files.values()]
        noted = {ending: file.name for ending, file in files.items()}
        reason = next((reason for reason in reasons if reason), None)
        if reason is not None:
            noted[ERROR] = reason
        size = 0 if reason is not None else sum(file.size for file in files.values())
        samples.append((key, noted, size))
    return samples


def read_samples(location: Location, unit: Unit, layout: Layout) -> Iterator[Sample]:
    """The samples of a unit; a file that is gone since is a failed row."""

    def read_sample(noted: dict[str, str]) -> Sample:
        ending = next(ending for ending in noted if ending in members.IMAGE_ENDINGS)
        key = members.split_file_name(noted[ending])[0]
        if ERROR in noted:
            return Sample(key=key, error=noted[ERROR])
        try:
            content = {
                label: (location / name).read()
                for label, name in noted.items()
                if label not in (CAPTION, ERROR)
            }
        except OSError as error:
            if not isinstance(error, ABSENT) and error.errno != errno.ELOOP:
                raise
            return Sample(key=key, error=f"unreadable: {type(error).__name__}: {error}")
        caption = members.decode_text(content.get(members.CAPTION_ENDING))
        return Sample(
            key=key,
            image=content[ending],
            caption=noted.get(CAPTION) if caption is None else caption,
            meta=members.decode_text(content.get(members.META_ENDING)),
        )

    with ThreadPoolExecutor(16) as readers:
        yield from readers.map(read_sample, unit.files)
