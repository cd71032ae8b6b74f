"""The shards of an input: what the user named is looked up, told apart by format, and checked."""

import logging
import posixpath
from dataclasses import replace
from functools import partial

import pyarrow as pa

from c3l_ray import storage
from c3l_ray.errors import PreflightError
from c3l_ray.inputs.formats import llava_json, metadata, parquet, tars
from c3l_ray.inputs.kinds import SortedFiles, sort_files
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.listing import InputFile, Listing, list_input
from c3l_ray.inputs.units import Format, Shard, readable_name
from c3l_ray.storage import Location, map_at_once

NUM_CHECKED_TARS = 16  # for an image, before the start

log = logging.getLogger(__name__)


def find_shards(inputs: tuple[str, ...], layout: Layout) -> list[Shard]:
    """The shards of an input, in the order of their names. What is passed over is logged.

    Args:
        inputs: files, folders and globs. With several, a shard's source begins with the last name
            of the input that it was found in.
        layout: where an image is found in its file.

    Raises:
        PreflightError: an input does not exist, is not readable, holds nothing to read or several
            kinds of it, or two hold shards of one name.
        C3LError: the storage does not answer.
    """
    shards: dict[str, Shard] = {}
    find_of_one = partial(_find_shards_of_one, layout=layout, name_input=len(inputs) > 1)
    for path, shards_of_one in zip(inputs, map_at_once(find_of_one, inputs), strict=True):
        for shard in shards_of_one:
            other = shards.get(shard.source)
            shards[shard.source] = shard if other is None else _merge(path, other, shard)
    first_of_format = {shard.format: shard for shard in reversed(shards.values())}
    for shard in first_of_format.values():
        _check_first_shard(shard, layout)
    if {*first_of_format} == {"tar"}:
        _check_tars(list(shards.values()), layout)
    return [shards[source] for source in sorted(shards)]


def _find_shards_of_one(path: str, layout: Layout, *, name_input: bool) -> list[Shard]:
    """The shards of one input; its last name begins their sources where it is to be named."""
    location = Location.parse(path, "--input")
    try:
        listing = list_input(path, location)
        kinds = sort_files(location.fs, listing, layout)
    except storage.ERRORS as error:
        raise storage.refuse("--input", path, location, error) from error
    prefix = f"{posixpath.basename(listing.base)}/" if name_input else ""

    def make_shard(format_: Format, name: str, size: int, etag: str | None = None) -> Shard:
        source = prefix + readable_name(name.removeprefix(listing.base).lstrip("/"))
        url = Location(location.fs, name).url
        return Shard(format=format_, path=url, source=source, size=size, etag=etag)

    files: dict[Format, list[InputFile]] = {
        "tar": kinds.tars,
        "parquet": kinds.parquets,
        "llava": kinds.lists,
    }
    shards = [
        make_shard(format_, _refuse_dangling(path, file).path, file.size, file.etag)
        for format_, files_of_format in files.items()
        for file in files_of_format
    ]
    for folder in sorted(kinds.images):
        shard = make_shard("folder", folder, 0)
        shards.append(_describe_folder(shard, folder, kinds, location, listing.base))
    _refuse_no_kind_and_several(path, location, listing, kinds, shards)
    if kinds.passed_over:
        log.info("--input %s: files passed over: %s", path, kinds.describe_passed_over())
    if listing.circles:
        circles = ", ".join(map(readable_name, listing.circles[:5]))
        log.info("--input %s: linked folders that lead back are not followed: %s", path, circles)
    return shards


def _describe_folder(
    shard: Shard, folder: str, kinds: SortedFiles, location: Location, base: str
) -> Shard:
    """The shard of a folder of images with its size, its images' names and its metadata."""
    images = kinds.images[folder]
    named = all(file.is_named for file in images)
    size = sum(file.size for file in (*images, *kinds.sides.get(folder, [])))
    metadata_path, inner = None, folder
    while metadata_path is None:
        if inner in kinds.metadata:
            metadata_path = kinds.metadata[inner].path
            size += kinds.metadata[inner].size
        elif named:
            # What lies beside named images was not listed.
            candidates = [Location(location.fs, f"{inner}/{name}") for name in metadata.NAMES]
            metadata_path = next((file.path for file in candidates if file.exists()), None)
        if inner in (base, "", "/"):
            break
        inner = posixpath.dirname(inner)
    return replace(
        shard,
        size=size,
        names=tuple(file.name for file in images) if named else None,
        metadata=None if metadata_path is None else Location(location.fs, metadata_path).url,
    )


def _merge(path: str, first: Shard, second: Shard) -> Shard:
    """Two shards of one source: images that were named one by one, of one folder.

    Raises:
        PreflightError: they are something else, or one image is named twice.
    """
    names = (*(first.names or ()), *(second.names or ()))
    if (
        not (first.names and second.names)
        or first.path != second.path
        or len(set(names)) < len(names)
    ):
        raise PreflightError(
            f"--input {path}: {second.address} and {first.address} would both be "
            f"{second.source}; give their common folder instead"
        )
    return replace(first, names=tuple(sorted(names)), size=first.size + second.size)


def _refuse_dangling(path: str, file: InputFile) -> InputFile:
    if file.is_dangling:
        raise PreflightError(f"--input {path}: {readable_name(file.path)} is a link to nothing")
    return file


def _refuse_no_kind_and_several(
    path: str, location: Location, listing: Listing, kinds: SortedFiles, shards: list[Shard]
) -> None:
    is_folder = listing.base == location.path
    if not shards and listing.is_file:
        raise PreflightError(
            f"--input {path}: not a .tar, .parquet or LLaVA .json, nor an image or a folder of them"
        )
    if not shards:
        held = f"; it holds {kinds.describe_passed_over()}" if kinds.passed_over else ""
        raise PreflightError(f"--input {path}: holds no .tar, no .parquet and no images{held}")
    formats = sorted({shard.format for shard in shards})
    if len(formats) > 1:
        words = {"folder": "image", "llava": "LLaVA .json"}
        ending = formats[-1] if formats[-1] in ("tar", "parquet") else "parquet"
        example = f", such as '{path}/**/*.{ending}'" if is_folder else ""
        raise PreflightError(
            f"--input {path}: holds {' and '.join(words.get(name, name) for name in formats)} "
            f"files; name one kind{example}"
        )


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
        raise storage.refuse("--input", location.address, location, error) from error


def _check_tars(shards: list[Shard], layout: Layout) -> None:
    """Refuses tars of which none has an image."""
    checked = shards[:NUM_CHECKED_TARS]
    try:
        reason = tars.explain_no_images(checked, layout)
    except storage.ERRORS as error:
        address = checked[0].address
        raise storage.refuse("--input", address, Location.connect(address), error) from error
    if reason is not None and len(checked) == len(shards):
        more = f" and {len(shards) - 1} more" if len(shards) > 1 else ""
        raise PreflightError(f"--input {checked[0].address}{more}: holds no image: {reason}")
