"""The image of a sample: what the sample says is its file, where that lies, and how large it is.

A list may come from a stranger: only files in the images' folder are read, by their names alone.
"""

import errno
import json
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from c3l_ray.schema import TEXT_ONLY
from c3l_ray.storage import Location

IMAGE_FIELDS = ("image", "images", "image_path", "image_paths", "image_file", "img_path")
MESSAGE_FIELDS = ("conversations", "messages", "query", "question", "instruction")
ABSENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
ABSENT_NUMBERS = (errno.ENAMETOOLONG, errno.ELOOP)
NUM_THREADS = 16
NUM_SINGLE_LOOKS = 32  # in a folder of an object store, before it is listed
IMAGE_TAG = re.compile(r"<img>(.*?)</img>", re.DOTALL)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def image_names(sample: dict[str, Any]) -> list[Any]:
    """What a sample says are its images' files, in a field, in parts of messages or in tags."""
    for field in IMAGE_FIELDS:
        if content := sample.get(field):
            return [
                _name_in(item) for item in (content if isinstance(content, list) else [content])
            ]
    return [name for field in MESSAGE_FIELDS for name in _names_in_text(sample.get(field))]


def find_image_name(meta: str | None) -> str | None:
    """The one image that a LLaVA sample names, where a record's `meta` is such a sample."""
    try:
        sample = json.loads(meta or "")
    except (ValueError, RecursionError):
        return None
    names = image_names(sample) if isinstance(sample, dict) else []
    return names[0] if len(names) == 1 and isinstance(names[0], str) else None


def locate_image(folder: Location, names: Sequence[Any]) -> tuple[Location | None, str | None]:
    """Where the image of a sample lies, or why it has none.

    Args:
        folder: of the images.
        names: of the sample's images.
    """
    if not names:
        return None, f"{TEXT_ONLY}: the sample names no image"
    if len(names) > 1:
        return None, f"several_images: the sample names {len(names)}, and a row is one image"
    name = names[0]
    if not isinstance(name, str) or "\0" in name:
        return None, f"no_image: {str(name)[:100]!r} is not the name of a file"
    if (path := _path_of(folder, name)) is None:
        return None, f"no_image: {name[:100]} is neither a file's name nor in {folder.address}"
    path = posixpath.normpath(path)
    if not path.startswith(f"{folder.path}/"):
        return None, (
            f"no_image: {name} leads out of {folder.address or '/'}; --layout.image-root names "
            "the folder that images may be read from"
        )
    return Location(folder.fs, path), None


def is_absent(error: OSError) -> bool:
    """Whether a file is not there, rather than the storage at fault."""
    return isinstance(error, ABSENT) or error.errno in ABSENT_NUMBERS


class ImageSizes:
    """The sizes of image files. An object store is asked for a folder's list, not for each file."""

    def __init__(self, folder: Location) -> None:
        self._fs = folder.fs
        self._is_local = folder.is_local
        self._num_looks: Counter[str] = Counter()
        self._listed: dict[str, dict[str, int]] = {}

    def measure(self, files: Sequence[Location | None]) -> list[int]:
        """Bytes of each file, 0 where there is none.

        Raises:
            OSError: the storage failed.
        """
        if not self._is_local:
            self._num_looks.update(file.parent.path for file in files if file is not None)
            for folder, number in self._num_looks.items():
                if number > NUM_SINGLE_LOOKS and folder not in self._listed:
                    self._listed[folder] = self._list_folder(folder)
        # A share of the files for each thread: a thread costs more than a look at a local file.
        shares = [files[number::NUM_THREADS] for number in range(NUM_THREADS)]
        sizes = [0] * len(files)
        with ThreadPoolExecutor(NUM_THREADS) as readers:
            for number, measured in enumerate(readers.map(self._measure_share, shares)):
                sizes[number::NUM_THREADS] = measured
        return sizes

    def _measure_share(self, files: Sequence[Location | None]) -> list[int]:
        return [self._measure_one(file) for file in files]

    def _measure_one(self, file: Location | None) -> int:
        if file is None:
            return 0
        if (listed := self._listed.get(file.parent.path)) is not None:
            return listed.get(file.path, 0)
        try:
            return int(self._fs.info(file.path)["size"] or 0)
        except OSError as error:
            if not is_absent(error):
                raise
            return 0

    def _list_folder(self, folder: str) -> dict[str, int]:
        try:
            listing = self._fs.ls(folder, detail=True)
        except OSError as error:
            if not is_absent(error):
                raise
            return {}
        return {info["name"]: int(info["size"] or 0) for info in listing}


def _name_in(item: Any) -> Any:
    """The name of a file in an item of a sample: itself, or the path in an object."""
    if isinstance(item, dict):
        paths = [item[name] for name in ("path", "image", "url") if isinstance(item.get(name), str)]
        return paths[0] if paths else item
    return item


def _names_in_text(content: Any) -> list[Any]:
    """The images that messages, their parts or their text name."""
    if isinstance(content, str):
        return IMAGE_TAG.findall(content)
    if not isinstance(content, list):
        return []
    names: list[Any] = []
    for item in content:
        if not isinstance(item, dict):
            continue
        if item.get("type") in ("image", "image_url", None):
            named = item.get("image") or item.get("image_url") or item.get("path")
            names += [_name_in(named)] if named else []
        for field in ("value", "content", "text"):
            names += _names_in_text(item.get(field))
    return names


def _path_of(folder: Location, name: str) -> str | None:
    """The path that a name is, taken from the folder; None for an address elsewhere."""
    if name.startswith("/"):
        return name if folder.is_local else None
    if _ADDRESS.match(name) and "://" in name:
        protocols = folder.fs.protocol
        known = (protocols,) if isinstance(protocols, str) else protocols
        if name.partition("://")[0] not in known:
            return None
        return str(folder.fs._strip_protocol(name))
    return f"{folder.path}/{name}"
