"""The shards of an input: what the user named is looked up, told apart by format, and checked."""

import posixpath
from collections import Counter
from typing import Any, NoReturn

import pyarrow as pa

from c3l_ray import storage
from c3l_ray.errors import PreflightError
from c3l_ray.inputs.formats import folders, llava_json, members, parquet
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.units import Format, Shard, readable_name
from c3l_ray.runs.commit import read_manifests
from c3l_ray.runs.folder import RunFolder
from c3l_ray.storage import Location

ENDINGS: dict[str, Format] = {
    ".tar": "tar",
    ".tar.gz": "tar",
    ".tgz": "tar",
    ".parquet": "parquet",
}
GLOB_MARKS = "*?["

Listing = dict[str, dict[str, Any]]  # fsspec's, by path: name, size, type, and ETag on S3


def find_shards(inputs: tuple[str, ...], layout: Layout) -> list[Shard]:
    """The shards of an input, in the order of their names.

    Args:
        inputs: files, folders and globs. With several, a shard's source begins with the last name
            of the input that it was found in.
        layout: where an image is found in Parquet and JSON files.

    Raises:
        PreflightError: an input does not exist, is not readable, holds nothing to read or several
            kinds of it, or two hold shards of one name.
    """
    shards: dict[str, Shard] = {}
    for path in inputs:
        for shard in _find_shards_of_one(path, name_input=len(inputs) > 1):
            if shard.source in shards:
                raise PreflightError(
                    f"--input {path}: {shard.path} and {shards[shard.source].path} would both be "
                    f"{shard.source}; give their common folder instead"
                )
            shards[shard.source] = shard
    first_of_format = {shard.format: shard for shard in reversed(shards.values())}
    for shard in first_of_format.values():
        _check_first_shard(shard, layout)
    return [shards[source] for source in sorted(shards)]


def _find_shards_of_one(path: str, *, name_input: bool) -> list[Shard]:
    """The shards of one input; its last name begins their sources where it is to be named."""
    location = Location.parse(path, "--input")
    try:
        base, files = _list_files(path, location)
    except storage.ERRORS as error:
        raise PreflightError(f"--input {path}: cannot be read: {error}") from error
    prefix = f"{posixpath.basename(base)}/" if name_input else ""

    def make_shard(format_: Format, name: str, size: int, etag: str | None = None) -> Shard:
        source = prefix + readable_name(name.removeprefix(base).lstrip("/"))
        url = Location(location.fs, name).url
        return Shard(format=format_, path=url, source=source, size=size, etag=etag)

    shards = [
        make_shard(format_, name, info["size"], info.get("ETag"))
        for name, info in _find_data_files(files).items()
        if (format_ := _format_of(name)) is not None
    ]
    if not shards:
        shards = [
            make_shard("llava", name, info["size"], info.get("ETag"))
            for name, info in files.items()
            if info.get("named") and name.endswith(llava_json.ENDINGS)
        ]
    if not shards:
        shards = [make_shard("folder", folder, size) for folder, size in _find_image_folders(files)]
    if not shards:
        raise PreflightError(f"--input {path}: holds no .tar, no .parquet and no images")
    formats = sorted({shard.format for shard in shards})
    if len(formats) > 1:
        raise PreflightError(
            f"--input {path}: holds {' and '.join(formats)} files; name one kind, such as "
            f"'{path}/*.tar'"
        )
    return shards


def _list_files(path: str, location: Location) -> tuple[str, Listing]:
    """The folder that sources are relative to, and the files that an input names or holds.

    Those that the user or a glob named, and did not find in a folder, are marked as "named".
    """
    if any(mark in location.path for mark in GLOB_MARKS):
        return _list_glob(path, location)
    if not location.exists():
        raise PreflightError(f"--input {path}: does not exist")
    if location.fs.isfile(location.path):
        return _list_one_file(path, location)
    if location.fs.isdir(f"{location.path}/manifests"):
        return location.path, _list_run(RunFolder(location, path, "--input"))
    return location.path, location.fs.find(location.path, detail=True)


def _list_glob(path: str, location: Location) -> tuple[str, Listing]:
    matches: Listing = {match: location.fs.info(match) for match in location.fs.glob(location.path)}
    if not matches:
        raise PreflightError(f"--input {path}: matches nothing")
    first_mark = min(location.path.find(mark) for mark in GLOB_MARKS if mark in location.path)
    base = location.path[:first_mark].rpartition("/")[0]
    files: Listing = {}
    for name, info in matches.items():
        if info["type"] == "file":
            files[name] = {**info, "named": True}
        elif info["type"] == "directory":
            files |= {**location.fs.find(name, detail=True), **files}
    return base, files


def _list_one_file(path: str, location: Location) -> tuple[str, Listing]:
    name = location.path
    if _format_of(name) is None and not name.endswith(llava_json.ENDINGS):
        _refuse_unknown_file(path)
    return location.parent.path, {name: {**location.fs.info(name), "named": True}}


def _list_run(folder: RunFolder) -> Listing:
    """The files of an earlier run that its manifests name."""
    folder.read_run()
    location = folder.location
    committed = {f"{location.path}/{manifest.file}" for manifest in read_manifests(folder)}
    files: Listing = location.fs.find(f"{location.path}/records", detail=True)
    files = {name: info for name, info in files.items() if name in committed}
    if not files:
        raise PreflightError(f"--input {folder.path}: a run without records")
    return files


def _refuse_unknown_file(path: str) -> NoReturn:
    raise PreflightError(
        f"--input {path}: not a .tar, .parquet or LLaVA .json, nor a folder of images"
    )


def _format_of(name: str) -> Format | None:
    return next((format_ for ending, format_ in ENDINGS.items() if name.endswith(ending)), None)


def _find_data_files(files: Listing) -> Listing:
    """The files, without the Parquet that img2dataset writes beside a tar or folder of its name."""
    stems = {name.removesuffix(".tar") for name in files if name.endswith(".tar")}
    folders_with_files = {parent for name in files for parent in _parents(name)}

    def describes_others(name: str) -> bool:
        stem = name.removesuffix(".parquet")
        return stem != name and (stem in stems or stem in folders_with_files)

    return {name: info for name, info in files.items() if not describes_others(name)}


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:number]) for number in range(1, len(parts))]


def _find_image_folders(files: Listing) -> list[tuple[str, int]]:
    """The folders that hold images, in the order of their names, and the bytes of what is read."""
    sizes: Counter[str] = Counter()
    with_images = set()
    for name, info in files.items():
        folder, extension = name.rpartition("/")[0], members.split_name(name)[1]
        if extension in folders.READ_EXTENSIONS:
            sizes[folder] += info["size"]
        if extension in members.IMAGE_EXTENSIONS:
            with_images.add(folder)
    return [(folder, sizes[folder]) for folder in sorted(with_images)]


def _check_first_shard(shard: Shard, layout: Layout) -> None:
    """Refuses a first file that lacks what the layout names; later ones become failed rows."""
    location = Location.connect(shard.path)
    try:
        if shard.format == "llava":
            llava_json.check_images(location, layout)
        elif shard.format == "parquet":
            with location.open() as file:
                parquet.check_file(file, location.address, layout)
    except parquet.UnsuitableColumns as error:
        raise PreflightError(f"--input {location.address}: {error}") from error
    except pa.ArrowException:
        return  # a damaged file is a failed row, wherever it stands
    except storage.ERRORS as error:
        raise PreflightError(f"--input {location.address}: cannot be read: {error}") from error
