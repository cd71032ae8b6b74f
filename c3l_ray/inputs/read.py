"""The input as units: an Arrow block each, of at most 256 images and 64 MB, not decoded.

An image of more than 64 MB is a unit of its own.

A shard is indexed once, and every unit's place in it is noted: reading a unit then is one ranged
read, and a rerun reads nothing of the units that are done.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

from c3l_ray.inputs.formats import folders, llava_json, parquet, tars
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.units import Sample, SampleStart, Shard, ShardEnd, Unit, digest_text
from c3l_ray.schema import STAGED_ROWS, conform, replace_columns
from c3l_ray.storage import Location

UNIT_ROWS = 256
UNIT_BYTES = 64 * 2**20


class ShardFormat(Protocol):
    """What a module of `formats` has."""

    def find_samples(
        self, location: Location, shard: Shard, layout: Layout
    ) -> Iterator[SampleStart | ShardEnd]:
        """Where each sample of a shard begins, then where the shard ends."""

    def read_samples(self, location: Location, unit: Unit, layout: Layout) -> Iterator[Sample]:
        """The samples of a unit, in the shard's order."""


FORMATS: dict[str, ShardFormat] = {
    "tar": tars,
    "parquet": parquet,
    "folder": folders,
    "llava": llava_json,
}


def index_shard(shard: Shard, layout: Layout, first_rows: int | None = None) -> list[Unit]:
    """The units of a shard; a damage ends the last one.

    A shard without samples has one unit without rows.

    Args:
        shard: to be read through.
        layout: where an image is found in its file.
        first_rows: after so many samples a unit ends, whatever its size.

    Raises:
        OSError: the storage failed.
    """
    units: list[Unit] = []
    num_seen: Counter[str] = Counter()
    pending: list[tuple[SampleStart, int]] = []  # with how often its key had come before

    def finish_unit(num_rows: int, end: int, position: int, damage: str | None = None) -> None:
        taken = pending[:num_rows]
        del pending[:num_rows]
        units.append(
            Unit(
                name=f"{shard.name}-{len(units):05d}",
                format=shard.format,
                path=shard.path,
                source=shard.source,
                start=taken[0][0].start if taken else end,
                end=end,
                rows=len(taken) + (damage is not None),
                size=position - taken[0][0].position if taken else 0,
                repeats={str(row): repeat for row, (_, repeat) in enumerate(taken) if repeat},
                files=[sample.files for sample, _ in taken if sample.files is not None],
                damage=damage,
            )
        )

    location = Location.connect(shard.path)
    for entry in FORMATS[shard.format].find_samples(location, shard, layout):
        if len(pending) > 1 and entry.position - pending[0][0].position > UNIT_BYTES:
            # The last one makes it too large.
            last = pending[-1][0]
            finish_unit(len(pending) - 1, last.start, last.position)
        if isinstance(entry, ShardEnd):
            if pending or entry.damage or not units:
                finish_unit(len(pending), entry.end, entry.position, entry.damage)
            units[-1] = dataclasses.replace(units[-1], passed_over=entry.passed_over)
            break
        is_full = len(pending) == UNIT_ROWS or num_seen.total() == first_rows
        if pending and (is_full or entry.position - pending[0][0].position >= UNIT_BYTES):
            finish_unit(len(pending), entry.start, entry.position)
        pending.append((entry, num_seen[entry.key]))
        num_seen[entry.key] += 1
    return units


def read_unit(unit: Unit, layout: Layout) -> pa.Table:
    """The images of a unit, in the shard's order, as one table of the schema STAGED_ROWS.

    Raises:
        OSError: the storage failed.
    """
    if unit.members:
        table = pa.concat_tables([read_unit(member, layout) for member in unit.members])
        return replace_columns(
            table, unit=[unit.name] * unit.rows, unit_rows=[unit.rows] * unit.rows
        )
    location = Location.connect(unit.path)
    samples = list(FORMATS[unit.format].read_samples(location, unit, layout))
    if unit.damage is not None:
        error = f"damaged_shard: {unit.source or '.'} at {unit.damage}"
        samples.append(Sample(key=f"damage at {unit.damage}", error=error))
    columns = {
        name: [getattr(sample, name) for sample in samples]
        for name in ("key", "image", "caption", "meta", "error", "turns")
    }
    return conform(
        {
            "image_id": [image_id_of(unit, row, sample) for row, sample in enumerate(samples)],
            **columns,
            "source": [sample.source or unit.source for sample in samples],
            "unit": [unit.name] * len(samples),
            "unit_rows": [unit.rows] * len(samples),
        },
        STAGED_ROWS,
    )


def image_id_of(unit: Unit, row: int, sample: Sample) -> str:
    """The id of the image in a row of a unit: the same wherever the data lies."""
    repeat = unit.repeats.get(str(row), 0)
    return sample.image_id or digest_text(f"{unit.source}\n{sample.key}\n{repeat}")
