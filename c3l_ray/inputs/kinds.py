"""What the files of an input are: data, images, what belongs to these, or none of it."""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray.inputs.formats import llava_json, members, metadata, parquet
from c3l_ray.inputs.formats.folders import SIDE_ENDINGS
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.listing import InputFile, Listing, is_hidden
from c3l_ray.storage import Location

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")
PARQUET_ENDING = ".parquet"
NUM_ENDINGS_TOLD = 5


@dataclass
class SortedFiles:
    """The files of an input by what they are.

    Attributes:
        tars, parquets, lists: that are read, each of them; lists are LLaVA's, named by the user.
        images: that lie in folders, by their folder.
        sides: captions and metas of images, by their folder.
        metadata: files that list captions for the images of their folder and those in it.
        passed_over: how many files are none of these, by what they are.
    """

    tars: list[InputFile] = field(default_factory=list)
    parquets: list[InputFile] = field(default_factory=list)
    lists: list[InputFile] = field(default_factory=list)
    images: dict[str, list[InputFile]] = field(default_factory=lambda: defaultdict(list))
    sides: dict[str, list[InputFile]] = field(default_factory=lambda: defaultdict(list))
    metadata: dict[str, InputFile] = field(default_factory=dict)
    passed_over: Counter[str] = field(default_factory=Counter)

    def describe_passed_over(self) -> str:
        """How many files of which kind are passed over."""
        by_number = sorted(self.passed_over.items(), key=lambda item: (-item[1], item[0]))
        most = by_number[:NUM_ENDINGS_TOLD]
        rest = self.passed_over.total() - sum(number for _, number in most)
        told = [f"{number} {kind}" for kind, number in most]
        return ", ".join([*told, f"{rest} others"] if rest else told)


def sort_files(fs: object, listing: Listing, layout: Layout) -> SortedFiles:
    """The files of an input by what they are.

    Args:
        fs: their file system.
        listing: of them.
        layout: where an image is found in its file.

    Raises:
        OSError: a Parquet file that may be metadata cannot be read.
    """
    kinds = SortedFiles()
    others = []
    for file in listing.files:
        name = file.name.lower()
        if not listing.is_file and is_hidden(file.path.removeprefix(listing.base).lstrip("/")):
            kinds.passed_over["hidden"] += 1
        elif name.endswith(TAR_ENDINGS):
            kinds.tars.append(file)
        elif name.endswith(PARQUET_ENDING):
            kinds.parquets.append(file)
        elif members.is_image_name(name):
            kinds.images[file.folder].append(file)
        else:
            others.append(file)
    _take_metadata_parquets(kinds, fs, layout)
    stems = {
        (file.folder, members.split_file_name(file.name)[0])
        for images in kinds.images.values()
        for file in images
    }
    folders_with_images = set(_with_parents(kinds.images))
    for file in others:
        stem, ending = members.split_file_name(file.name)
        if file.name in metadata.NAMES and file.folder in folders_with_images:
            kinds.metadata.setdefault(file.folder, file)
        elif ending in SIDE_ENDINGS and (file.folder, stem) in stems:
            kinds.sides[file.folder].append(file)
        elif file.is_named and file.name.lower().endswith(llava_json.ENDINGS):
            kinds.lists.append(file)
        else:
            kinds.passed_over[f".{ending}" if ending else "without an ending"] += 1
    return kinds


def _take_metadata_parquets(kinds: SortedFiles, fs: object, layout: Layout) -> None:
    """Passes over Parquet files that describe images which lie elsewhere.

    img2dataset writes one beside each tar or folder, of its name; the datasets library has them
    beside images. A file that holds images itself is data, whatever its name.
    """
    tar_stems = {
        file.path.removesuffix(ending)
        for file in kinds.tars
        for ending in TAR_ENDINGS
        if file.path.endswith(ending)
    }
    folders_with_images = set(_with_parents(kinds.images))
    described = tar_stems | set(_with_parents([file.folder for file in kinds.parquets]))
    described |= folders_with_images

    def may_describe(file: InputFile) -> bool:
        is_metadata = file.name in metadata.NAMES and file.folder in folders_with_images
        return is_metadata or file.path.removesuffix(PARQUET_ENDING) in described

    def describes(file: InputFile) -> bool:
        return may_describe(file) and not _may_hold_images(Location(fs, file.path), layout)

    with ThreadPoolExecutor(16) as readers:
        describing = list(readers.map(describes, kinds.parquets))
    for file, is_description in zip(kinds.parquets, describing, strict=True):
        if is_description and file.name in metadata.NAMES:
            kinds.metadata.setdefault(file.folder, file)
        elif is_description:
            kinds.passed_over[PARQUET_ENDING] += 1
    kinds.parquets = [
        file
        for file, is_description in zip(kinds.parquets, describing, strict=True)
        if not is_description
    ]


def _may_hold_images(location: Location, layout: Layout) -> bool:
    try:
        with location.open() as file:
            schema = pq.read_schema(file)
    except FileNotFoundError:
        return True
    except Exception as error:  # pyarrow raises a dozen kinds on bytes made by strangers
        if not parquet.is_damage(error):
            raise
        return True  # a damaged file is told as such
    return layout.image in schema.names or any(_holds_bytes(column.type) for column in schema)


def _holds_bytes(type_: pa.DataType) -> bool:
    if pa.types.is_nested(type_):
        return any(_holds_bytes(type_.field(number).type) for number in range(type_.num_fields))
    if pa.types.is_dictionary(type_):
        return _holds_bytes(type_.value_type)
    return "binary" in str(type_)


def _with_parents(folders: Iterable[str]) -> Iterator[str]:
    """The folders and all that they lie in."""
    for folder in folders:
        while folder:
            yield folder
            folder = posixpath.dirname(folder) if folder != "/" else ""
