"""Which images look alike: PDQ hashes that differ in few bits, found without comparing all.

A PDQ hash has 256 bits, and the hashes of an image that was scaled or compressed anew differ in few
of them. The bound of 31 bits is that of the hash's authors (github.com/facebook/ThreatExchange,
hashing/hashing.pdf). All images are brought to one size first, so that small ones are hashed alike:
20 photographs and 200 scenes of 96 pixels, at half to twice their size and as JPEGs of quality 60,
differed from themselves in at most 30 bits but for one scene (54 at half its size), and from each
other in at least 68. At a quarter of its size, one photograph in ten is not found.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from c3l_ray.errors import PreflightError, UnusableImage
from c3l_ray.images import MAX_SOURCE_PIXELS, decode_image

MAX_DISTANCE = 31  # bits
SIDE = 512  # pixels
NUM_THREADS = min(16, os.cpu_count() or 1)
NUM_BANDS = 16
BITS_OF_BAND = 16

Hash = NDArray[np.uint8]
"""A PDQ hash, of 32 bytes."""


class NearImages:
    """Hashes of images, among which those near another one are found.

    A hash is cut into 16 bands of 16 bits. Of two that differ in at most 31 bits, one band differs
    in at most one, so that only hashes with such a band are compared: about one in 240 of hashes
    that have nothing in common. An image takes about 200 bytes.
    """

    def __init__(self) -> None:
        self._hashes = np.empty((1024, 32), np.uint8)
        self._numbers: list[dict[int, list[int]]] = [{} for _ in range(NUM_BANDS)]
        self._num_hashes = 0

    def __len__(self) -> int:
        return self._num_hashes

    def add(self, image_hash: Hash) -> None:
        if self._num_hashes == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.empty_like(self._hashes)])
        self._hashes[self._num_hashes] = image_hash
        for numbers, band in zip(self._numbers, _bands_of(image_hash), strict=True):
            numbers.setdefault(band, []).append(self._num_hashes)
        self._num_hashes += 1

    def has_near(self, image_hash: Hash) -> bool:
        """Whether a hash that was added differs from this one in at most MAX_DISTANCE bits."""
        candidates: list[int] = []
        for numbers, band in zip(self._numbers, _bands_of(image_hash), strict=True):
            for flipped in (0, *(1 << bit for bit in range(BITS_OF_BAND))):
                candidates += numbers.get(band ^ flipped, ())
        if not candidates:
            return False
        differences = np.bitwise_count(self._hashes[candidates] ^ image_hash)
        return bool(differences.sum(axis=1, dtype=np.int64).min() <= MAX_DISTANCE)


def _bands_of(image_hash: Hash) -> list[int]:
    bands: list[int] = image_hash.view(np.uint16).tolist()
    return bands


def hash_images(images: Iterable[bytes | None], flag: str) -> Iterator[Hash | None]:
    """The hash of each image; None of one that cannot be compared.

    Args:
        images: files.
        flag: that asks for it, for the message.

    Raises:
        PreflightError: pdqhash is not installed.
    """
    hash_one = partial(hash_image, flag=flag)
    with ThreadPoolExecutor(NUM_THREADS) as hashers:
        batch: list[bytes | None] = []
        for image in images:
            batch.append(image)
            if len(batch) == 4 * NUM_THREADS:
                yield from hashers.map(hash_one, batch)
                batch = []
        yield from hashers.map(hash_one, batch)


def hash_image(data: bytes | None, flag: str) -> Hash | None:
    """The PDQ hash of an image; None where it cannot be decoded, or is of one colour.

    Raises:
        PreflightError: pdqhash is not installed.
    """
    try:
        import pdqhash
    except ImportError as error:
        raise PreflightError(
            f"{flag}: needs the library pdqhash; pip install 'c3l-ray[dedup]'"
        ) from error
    try:
        image = decode_image(data, MAX_SOURCE_PIXELS)
    except UnusableImage:
        return None
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    bits, quality = pdqhash.compute(pixels)
    # An image of one colour has a quality of 0, and a hash that rounding makes.
    return np.packbits(bits.astype(np.uint8)) if quality else None
