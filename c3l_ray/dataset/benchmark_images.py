"""Images that a benchmark has too, found by PDQ hashes: near-duplicates count as the same image.

A PDQ hash has 256 bits, and the hashes of an image that was scaled or compressed anew differ in few
of them. The bound of 31 bits is that of the hash's authors (github.com/facebook/ThreatExchange,
hashing/hashing.pdf). All images are brought to one size first, so that small ones are hashed alike:
20 photographs and 200 scenes of 96 pixels, at half to twice their size and as JPEGs of quality 60,
differed from themselves in at most 30 bits but for one scene (54 at half its size), and from each
other in at least 68. At a quarter of its size, one photograph in ten is not found.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from c3l_ray.errors import PreflightError, UnusableImage
from c3l_ray.images import MAX_SOURCE_PIXELS, decode_image
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.inputs.read import index_shard, read_unit
from c3l_ray.runs.commit import Manifest, iterate_records
from c3l_ray.runs.folder import RunFolder

MAX_DISTANCE = 31  # bits
SIDE = 512  # pixels
NUM_THREADS = min(16, os.cpu_count() or 1)
FLAG = "--exclude-benchmark"

Hash = NDArray[np.uint8]
"""A PDQ hash, of 32 bytes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What a run and benchmarks have in common.

    Attributes:
        rows: by unit, the rows of the run whose image a benchmark has.
        num_benchmark_images: that could be compared.
        num_images: of the run that benchmarks have.
        num_not_compared: images of the run that are missing, damaged, or of one colour.
    """

    rows: Mapping[str, frozenset[int]] = field(default_factory=dict)
    num_benchmark_images: int = 0
    num_images: int = 0
    num_not_compared: int = 0


def find_overlap(
    source: RunFolder, manifests: Mapping[str, Manifest], paths: Sequence[str]
) -> Overlap:
    """The images of a run that benchmarks have too.

    Args:
        source: the run.
        manifests: of its files, by unit.
        paths: of benchmarks: whatever jobs.score reads, or images alone.

    Raises:
        PreflightError: pdqhash is not installed, a path cannot be read, or it holds no image that
            can be compared.
    """
    if not paths:
        return Overlap()
    benchmark = np.stack([*_hash_benchmark(paths)])
    rows: dict[str, frozenset[int]] = {}
    num_images = num_not_compared = 0
    for unit, manifest in manifests.items():
        images = (
            image
            for batch in iterate_records(source, manifest, ["image"])
            for image in batch["image"].to_pylist()
        )
        found: set[int] = set()
        for row, image_hash in enumerate(_hash_images(images)):
            if image_hash is None:
                num_not_compared += 1
            elif _is_near(image_hash, benchmark):
                found.add(row)
        num_images += len(found)
        rows[unit] = frozenset(found)
    return Overlap(
        rows=rows,
        num_benchmark_images=len(benchmark),
        num_images=num_images,
        num_not_compared=num_not_compared,
    )


def _is_near(image_hash: Hash, hashes: NDArray[np.uint8]) -> bool:
    distances = np.bitwise_count(hashes ^ image_hash).sum(axis=1, dtype=np.int64)
    return bool(distances.min() <= MAX_DISTANCE)


def _hash_benchmark(paths: Sequence[str]) -> list[Hash]:
    """The hashes of the images of benchmarks, at least one."""
    hashes: list[Hash] = []
    num_images = 0
    for image_hash in _hash_images(_read_images(paths)):
        num_images += 1
        if image_hash is not None:
            hashes.append(image_hash)
    if not hashes:
        raise PreflightError(
            f"{FLAG} {' '.join(paths)}: none of its {num_images} images can be compared"
        )
    if len(hashes) < num_images:
        log.warning(
            "%d of %d images of the benchmark cannot be compared: they are missing, damaged, or "
            "of one colour",
            *(num_images - len(hashes), num_images),
        )
    return hashes


def _read_images(paths: Sequence[str]) -> Iterator[bytes | None]:
    try:
        for shard in find_shards(tuple(paths), Layout()):
            layout = TurnsLayout() if shard.format == "llava" else Layout()
            for unit in index_shard(shard, layout):
                yield from read_unit(unit, layout)["image"].to_pylist()
    except PreflightError as error:
        raise PreflightError(str(error).replace("--input", FLAG, 1)) from error


def _hash_images(images: Iterable[bytes | None]) -> Iterator[Hash | None]:
    """The hash of each image; None of one that cannot be compared."""
    with ThreadPoolExecutor(NUM_THREADS) as hashers:
        batch: list[bytes | None] = []
        for image in images:
            batch.append(image)
            if len(batch) == 4 * NUM_THREADS:
                yield from hashers.map(hash_image, batch)
                batch = []
        yield from hashers.map(hash_image, batch)


def hash_image(data: bytes | None) -> Hash | None:
    """The PDQ hash of an image; None where it cannot be decoded, or is of one colour.

    Raises:
        PreflightError: pdqhash is not installed.
    """
    try:
        import pdqhash
    except ImportError as error:
        raise PreflightError(
            f"{FLAG}: needs the library pdqhash; pip install 'c3l-ray[dedup]'"
        ) from error
    try:
        image = decode_image(data, MAX_SOURCE_PIXELS)
    except UnusableImage:
        return None
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    bits, quality = pdqhash.compute(pixels)
    # An image of one colour has a quality of 0, and a hash that rounding makes.
    return np.packbits(bits.astype(np.uint8)) if quality else None
