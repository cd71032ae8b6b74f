"""What an input holds: its shards are listed, and its images counted in all or in some of them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from c3l_ray.errors import PreflightError
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.planning.estimates import Estimate, estimate_total


@dataclass(frozen=True, kw_only=True)
class InputCount:
    """What an input holds.

    Attributes:
        shards: files, or folders of images.
        counted_shards: of these, in which the images were counted.
        bytes: of all shards, as they are listed.
        images: that a run makes rows of, those without which a damaged shard ends not counted.
        units: that they are cut into, each a file of records.
        damaged_shards: of the counted ones, that break off or cannot be read.
        damage: of one of them, and where; None where there is none.
    """

    shards: int
    counted_shards: int
    bytes: int
    images: Estimate
    units: Estimate
    damaged_shards: int = 0
    damage: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the images of every shard were counted."""
        return self.counted_shards == self.shards


def draw_shards(shards: Sequence[Shard], num_drawn: int, seed: int) -> list[Shard]:
    """The shards to count, in their order: all of them, or as many at random, each as likely."""
    if len(shards) <= num_drawn:
        return list(shards)
    places = random.Random(seed).sample(range(len(shards)), num_drawn)
    return [shards[place] for place in sorted(places)]


def list_parts(units: Sequence[Unit]) -> Iterator[Unit]:
    """The units, and in place of those that join others these."""
    for unit in units:
        yield from unit.members or [unit]


def count_input(shards: Sequence[Shard], counted: Sequence[Shard], units: list[Unit]) -> InputCount:
    """Sums up what was counted, and estimates from it what the other shards hold.

    Images are taken to go with the bytes of a shard, and units with images.

    Args:
        shards: of the input.
        counted: those of them that were indexed.
        units: of these.

    Raises:
        PreflightError: none of the drawn shards holds an image.
    """
    images_of = {shard.source: 0 for shard in counted}
    damages = []
    for part in list_parts(units):
        images_of[part.source] += part.num_found
        if part.damage is not None:
            damages.append(f"{part.source or '.'} at {part.damage}")
    num_counted = sum(images_of.values())
    if not num_counted:
        example = f"; damaged is {damages[0]}" if damages else ""
        raise PreflightError(
            f"--count-shards: none of the {len(counted)} drawn shards, of {len(shards)}, holds an "
            f"image that can be counted{example}"
        )
    num_bytes = sum(shard.size for shard in shards)
    images = estimate_total(
        [images_of[shard.source] for shard in counted],
        [shard.size for shard in counted],
        len(shards),
        num_bytes,
    )
    return InputCount(
        shards=len(shards),
        counted_shards=len(counted),
        bytes=num_bytes,
        images=images,
        units=images.times(len(units) / num_counted),
        damaged_shards=len(damages),
        damage=damages[0] if damages else None,
    )
