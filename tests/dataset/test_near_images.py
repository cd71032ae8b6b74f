"""Hashes near another one are found as if all were compared."""

import numpy as np
import pytest

from c3l_ray.dataset.near_images import MAX_DISTANCE, NearImages


def flip(image_hash: np.ndarray, places: np.ndarray) -> np.ndarray:
    bits = np.unpackbits(image_hash)
    bits[places] ^= 1
    return np.packbits(bits)


@pytest.mark.parametrize("distance", [0, 1, 16, MAX_DISTANCE, MAX_DISTANCE + 1, 64])
def test_a_hash_is_near_up_to_the_bound_wherever_its_bits_differ(distance: int) -> None:
    rng = np.random.default_rng(distance)
    hashes = NearImages()
    added = rng.integers(0, 256, (1500, 32), np.uint8)  # more than the first space for them
    for image_hash in added:
        hashes.add(image_hash)
    assert len(hashes) == 1500
    for number in range(0, 1500, 5):
        # Spread over the bands as evenly as can be, which is the hardest to find, or at random.
        spread = (np.arange(distance) % 16) * 16 + np.arange(distance) // 16
        random = rng.permutation(256)[:distance]
        for places in (spread, random):
            near = flip(added[number], places)
            assert hashes.has_near(near) == (distance <= MAX_DISTANCE)


def test_the_answers_are_those_of_comparing_all() -> None:
    rng = np.random.default_rng(0)
    added = rng.integers(0, 256, (300, 32), np.uint8)
    hashes = NearImages()
    for image_hash in added:
        hashes.add(image_hash)
    found = []
    for _ in range(1000):
        asked = flip(added[rng.integers(300)], rng.permutation(256)[: rng.integers(20, 45)])
        differences = np.bitwise_count(added ^ asked).sum(axis=1)
        assert hashes.has_near(asked) == (differences.min() <= MAX_DISTANCE)
        found.append(hashes.has_near(asked))
    assert 200 < sum(found) < 800


def test_nothing_is_near_where_there_is_nothing() -> None:
    assert not NearImages().has_near(np.zeros(32, np.uint8))
