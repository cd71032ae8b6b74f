"""The files that an input names or holds: a file, a folder with all that lies in it, or a glob.

Links are followed, as `find -L` does, but not back to a folder that they lie in.
"""

import errno
import fnmatch
import glob
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from c3l_ray.errors import PreflightError
from c3l_ray.runs.commit import read_manifests
from c3l_ray.runs.folder import PARTS, SELECTION, RunFolder
from c3l_ray.storage import Location, map_at_once

GLOB_MARKS = "*?["
MAX_LISTED_ALONE = 256  # folders of S3 that are listed by requests of their own
_NO_TARGET = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A file of the input.

    Attributes:
        path: on its file system.
        size: in bytes; of a link, of what it leads to.
        etag: S3's name for its content, where it lies there.
        is_named: whether the user or a glob named it; else it was found in a folder.
        is_dangling: whether it is a link to nothing.
    """

    path: str
    size: int
    etag: str | None = None
    is_named: bool = False
    is_dangling: bool = False

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What an input names or holds.

    Attributes:
        base: the folder that sources are relative to.
        files: in the order of their names.
        circles: linked folders that were not followed, because they lead back.
        is_file: whether the input is the path of one file.
    """

    base: str
    files: list[InputFile]
    circles: list[str] = field(default_factory=list)
    is_file: bool = False


def is_hidden(path: str) -> bool:
    """Whether a relative path is hidden, in itself or by a folder on it; also what macOS adds."""
    if not (path.startswith(".") or "/." in path or "__MACOSX" in path):
        return False  # as most are, and tars have many
    return any(
        (part.startswith(".") and part not in (".", "..")) or part == "__MACOSX"
        for part in path.split("/")
    )


def list_input(path: str, location: Location) -> Listing:
    """The files of an input, given as the user typed it and as a location.

    Raises:
        PreflightError: there is no such input, or a glob matches nothing.
        OSError: it cannot be listed.
    """
    known, pattern = _split_glob(location)
    if pattern:
        return _list_glob(path, known, pattern)
    if not location.exists():
        raise PreflightError(f"--input {path}: does not exist")
    if location.fs.isfile(location.path):
        info = location.fs.info(location.path)
        size = os.stat(location.path).st_size if location.is_local else info["size"]
        file = InputFile(path=location.path, size=size, etag=info.get("ETag"), is_named=True)
        return Listing(base=location.parent.path, files=[file], is_file=True)
    if location.fs.isdir(f"{location.path}/manifests"):
        return _list_run(RunFolder(location, path, "--input"))
    if (location / SELECTION).exists():
        return _list_dataset(location)
    files, circles = _find_files(location)
    return Listing(base=location.path, files=files, circles=circles)


def list_folder(location: Location) -> list[InputFile]:
    """The files that lie in a folder itself.

    Raises:
        OSError: it cannot be listed.
    """
    if location.is_local:
        entries = sorted(os.scandir(location.path), key=lambda entry: entry.name)
        return [file for entry in entries if isinstance(file := _look_at(entry), InputFile)]
    infos = location.fs.ls(location.path, detail=True)
    files = [_make_file(info) for info in infos if info["type"] == "file"]
    return sorted(files, key=lambda file: file.path)


def _make_file(info: dict[str, object], *, is_named: bool = False) -> InputFile:
    size, etag = info["size"], info.get("ETag")
    assert isinstance(size, int) and (etag is None or isinstance(etag, str))
    return InputFile(path=str(info["name"]), size=size, etag=etag, is_named=is_named)


def _look_at(entry: os.DirEntry[str]) -> InputFile | os.stat_result | None:
    """A file; the status of a folder; None of what is neither. Links are followed."""
    try:
        status = entry.stat()
    except OSError as error:
        if error.errno not in _NO_TARGET or not entry.is_symlink():
            raise
        return InputFile(path=entry.path, size=0, is_dangling=True)
    if stat.S_ISDIR(status.st_mode):
        return status
    if stat.S_ISREG(status.st_mode):
        return InputFile(path=entry.path, size=status.st_size)
    return None


def _find_files(location: Location) -> tuple[list[InputFile], list[str]]:
    """Every file under a folder, in the order of their names; and the circles, as in Listing."""
    if not location.is_local:
        infos = _find_on_s3(location)
        files = [
            _make_file(info)
            for info in infos
            # A folder that a console made is an object of its own, whose name ends with a slash.
            if info["type"] == "file" and not _is_folder_mark(str(info["name"]), location.path)
        ]
        return sorted(files, key=lambda file: file.path), []
    circles: list[str] = []
    files = [file for _, inner in _walk_folders(location.path, circles) for file in inner]
    return sorted(files, key=lambda file: file.path), circles


def _find_on_s3(location: Location) -> list[dict[str, object]]:
    """All that lies under a folder on S3, which lists 1,000 names a request: folders at once."""
    try:
        infos: list[dict[str, object]] = location.fs.ls(location.path, detail=True)
    except FileNotFoundError:
        return []
    folders = [info["name"] for info in infos if info["type"] == "directory"]
    if len(folders) > MAX_LISTED_ALONE:  # most would be requests of a few names
        return list(location.fs.find(location.path, detail=True).values())
    inner = map_at_once(lambda folder: location.fs.find(folder, detail=True), folders)
    return [*infos, *(info for of_folder in inner for info in of_folder.values())]


def _is_folder_mark(name: str, folder: str) -> bool:
    return name.endswith("/") or name == folder


def _walk_folders(top: str, circles: list[str]) -> Iterator[tuple[str, list[InputFile]]]:
    """Each folder under a local one, itself included, with its files.

    A link inside a linked folder is followed only to a folder that was not reached before:
    otherwise folders full of links to each other would be walked without end.
    """
    seen: set[tuple[int, int]] = set()
    status = os.stat(top)
    pending = [(top, frozenset({(status.st_dev, status.st_ino)}), False)]
    while pending:
        folder, above, is_linked = pending.pop()
        files = []
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except PermissionError:
            if is_hidden(folder.removeprefix(top).lstrip("/")):
                continue
            raise
        folders = []
        for entry in entries:
            found = _look_at(entry)
            if isinstance(found, InputFile):
                files.append(found)
            elif found is not None:
                identity = (found.st_dev, found.st_ino)
                is_link = entry.is_symlink()
                if identity in above or (is_link and is_linked and identity in seen):
                    circles.append(entry.path)
                    continue
                seen.add(identity)
                folders.append((entry.path, above | {identity}, is_linked or is_link))
        pending += reversed(folders)
        yield folder, files


def _split_glob(location: Location) -> tuple[Location, list[str]]:
    """The folder that a path names as it is, and the parts of the glob after it.

    Marks in the name of what exists are letters: `[2024] photos` is a folder.
    """
    parts = location.path.split("/")
    for number, part in enumerate(parts):
        if any(mark in part for mark in GLOB_MARKS):
            as_it_is = Location(location.fs, "/".join(parts[: number + 1]))
            exists = os.path.lexists(as_it_is.path) if location.is_local else as_it_is.exists()
            if not exists:
                return Location(location.fs, "/".join(parts[:number]) or "/"), parts[number:]
    return location, []


def _list_glob(path: str, known: Location, pattern: list[str]) -> Listing:
    files: dict[str, InputFile] = {}
    circles: list[str] = []
    if known.is_local:
        matches = sorted(set(_expand_glob(known.path, pattern, circles)))
        named = [match for match in matches if not os.path.isdir(match)]
        folders = [match for match in matches if os.path.isdir(match)]
        for name in named:
            is_there = os.path.exists(name)
            if os.path.isfile(name) or not is_there:
                size = os.stat(name).st_size if is_there else 0
                files[name] = InputFile(
                    path=name, size=size, is_named=True, is_dangling=not is_there
                )
    else:
        address = f"{glob.escape(known.path)}/{'/'.join(pattern)}"
        found = known.fs.glob(address, detail=True)
        matches = sorted(found)
        folders = [name for name, info in found.items() if info["type"] == "directory"]
        for name, info in found.items():
            if info["type"] == "file":
                files[name] = _make_file(info, is_named=True)
    if not matches:
        raise PreflightError(f"--input {path}: matches nothing")
    for folder in folders:
        inner, inner_circles = _find_files(Location(known.fs, folder))
        files = {**{file.path: file for file in inner}, **files}
        circles += inner_circles
    return Listing(
        base=known.path,
        files=sorted(files.values(), key=lambda file: file.path),
        circles=sorted(set(circles)),
    )


def _expand_glob(folder: str, parts: list[str], circles: list[str]) -> Iterator[str]:
    """The local paths in a folder that match a glob; `**` is any number of folders."""
    part, *rest = parts
    if not os.path.isdir(folder):
        return
    if part == "**":
        for inner, files in _walk_folders(folder, circles):
            if rest:
                yield from _expand_glob(inner, rest, circles)
            else:
                yield from (file.path for file in files)
        return
    if os.path.lexists(os.path.join(folder, part)):
        names = [part]
    else:
        names = [name for name in os.listdir(folder) if fnmatch.fnmatchcase(name, part)]
    for name in names:
        inner = os.path.join(folder, name)
        if rest:
            yield from _expand_glob(inner, rest, circles)
        else:
            yield inner


def _list_run(folder: RunFolder) -> Listing:
    """The files of an earlier run that its manifests name."""
    folder.read_run()
    location = folder.location
    committed = {f"{location.path}/{manifest.file}" for manifest in read_manifests(folder)}
    files, _ = _find_files(location / "records")
    files = [file for file in files if file.path in committed]
    if not files:
        raise PreflightError(f"--input {folder.path}: a run without records")
    return Listing(base=location.path, files=files)


def _list_dataset(folder: Location) -> Listing:
    """The files of records in a dataset of `jobs.select`; its images lie beside them once more."""
    inner = folder / PARTS
    files = [*list_folder(folder), *(list_folder(inner) if inner.exists() else ())]
    parquets = [file for file in files if file.name.endswith(".parquet")]
    return Listing(base=folder.path, files=parquets)
