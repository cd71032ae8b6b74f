"""The input as units: an Arrow block each, of at most 256 images and 64 MB, not decoded.

An image of more than 64 MB is a unit of its own.

A shard is indexed once, and every unit's place in it is noted: reading a unit then is one ranged
read, and a rerun reads nothing of the units that are done.
"""

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

from c3l_ray import storage
from c3l_ray.errors import C3LError, first_line
from c3l_ray.inputs.formats import folders, llava_json, parquet, tars
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.units import Sample, SampleStart, Shard, ShardEnd, Unit, digest_text
from c3l_ray.runs.failures import name_unread_row
from c3l_ray.schema import EXCEPTION, STAGED_ROWS, conform, replace_columns
from c3l_ray.storage import Location

log = logging.getLogger(__name__)

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

    A shard without samples has one unit without rows; one that cannot be indexed, in a way that
    nobody expected, is a damage as a whole.

    Args:
        shard: to be read through.
        layout: where an image is found in its file.
        first_rows: after so many samples a unit ends, whatever its size.

    Raises:
        C3LError: the layout cannot be used.
        OSError: the storage failed.
    """
    try:
        return _find_units(shard, layout, first_rows)
    except C3LError:
        raise
    except Exception as error:  # as of `read_unit`
        if storage.is_fault(error):
            raise
        log.warning("%s cannot be indexed", shard.address, exc_info=True)
        return [damaged_unit(shard, f"its begin: {type(error).__name__}: {first_line(error)}")]


def _find_units(shard: Shard, layout: Layout, first_rows: int | None) -> list[Unit]:
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


def damaged_unit(shard: Shard, damage: str) -> Unit:
    """The only unit of a shard of which nothing can be read."""
    return Unit(
        name=f"{shard.name}-00000",
        format=shard.format,
        path=shard.path,
        source=shard.source,
        start=0,
        end=0,
        rows=1,
        damage=damage,
    )


def read_unit(
    unit: Unit, layout: Layout, failures: list[tuple[Unit, Exception]] | None = None
) -> pa.Table:
    """The images of a unit, in the shard's order, as one table of the schema STAGED_ROWS.

    Args:
        unit: to read.
        layout: of the input.
        failures: takes the parts that raise what nobody expected, with it; their rows fail.

    Raises:
        OSError: the storage failed.
        Exception: what nobody expected, where there is no list for it.
    """
    if unit.members:
        return _as_one_unit(unit, [read_unit(part, layout, failures) for part in unit.members])
    try:
        return _read_samples(unit, layout)
    except Exception as error:  # of a reader, on bytes made by strangers
        if failures is None or storage.is_fault(error):
            raise
        failures.append((unit, error))
        return fail_unit(unit, describe_exception(error))


def fail_unit(unit: Unit, error: str) -> pa.Table:
    """The rows of a unit that cannot be read, as failed rows."""
    if unit.members:
        return _as_one_unit(unit, [fail_unit(part, error) for part in unit.members])
    samples = [Sample(key=name_unread_row(unit.name, row), error=error) for row in range(unit.rows)]
    return _make_table(unit, samples)


def describe_exception(error: BaseException) -> str:
    """What a row's error says of an exception that nobody expected."""
    return f"{EXCEPTION}: {type(error).__name__}: {first_line(error)}"


def _as_one_unit(unit: Unit, parts: list[pa.Table]) -> pa.Table:
    return replace_columns(
        pa.concat_tables(parts), unit=[unit.name] * unit.rows, unit_rows=[unit.rows] * unit.rows
    )


def _read_samples(unit: Unit, layout: Layout) -> pa.Table:
    location = Location.connect(unit.path)
    samples = list(FORMATS[unit.format].read_samples(location, unit, layout))
    if len(samples) != unit.num_found:
        raise ValueError(f"{len(samples)} samples where indexing found {unit.num_found}")
    if unit.damage is not None:
        error = f"damaged_shard: {unit.source or '.'} at {unit.damage}"
        samples.append(Sample(key=f"damage at {unit.damage}", error=error))
    return _make_table(unit, samples)


def _make_table(unit: Unit, samples: list[Sample]) -> pa.Table:
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
