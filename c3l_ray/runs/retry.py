"""Failed rows done again: which ones, and how their unit is committed anew with them healed."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from c3l_ray.errors import C3LError
from c3l_ray.runs.commit import (
    Manifest,
    commit_records,
    count_staged,
    make_records,
    read_manifests,
    read_records,
)
from c3l_ray.runs.counts import Counts, count_records
from c3l_ray.runs.failures import is_unread_row, refuse_unknown_reasons
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import error_reason, replace_columns


@dataclass(frozen=True, kw_only=True)
class Retry:
    """What is to be done again of a run.

    Attributes:
        reasons: first words of the errors of rows that are.
        manifests: of the units that have such rows, by unit.
    """

    reasons: frozenset[str]
    manifests: Mapping[str, Manifest]


def plan_retry(manifests: Iterable[Manifest], reasons: Collection[str]) -> Retry:
    """The units with rows to do again.

    Args:
        manifests: of the run.
        reasons: for which rows failed; all of them where none is named.

    Raises:
        PreflightError: no row failed for one of the reasons.
    """
    failed = [manifest for manifest in manifests if manifest.counts.reasons]
    present = {reason for manifest in failed for reason in manifest.counts.reasons}
    refuse_unknown_reasons(reasons, present, "--retry-failed")
    wanted = frozenset(reasons or present)
    affected = {
        manifest.unit: manifest for manifest in failed if count_failed(manifest, wanted) > 0
    }
    return Retry(reasons=wanted, manifests=affected)


def count_failed(manifest: Manifest, reasons: Collection[str]) -> int:
    """The rows of a unit that failed for one of these reasons."""
    return sum(count for reason, count in manifest.counts.reasons.items() if reason in reasons)


def take_failed(
    folder: RunFolder, manifest: Manifest, reasons: Collection[str], staged: pa.Table
) -> pa.Table:
    """The rows of a unit that failed for one of these reasons, as they are read again.

    A row whose image has another id now is left out. Of a row that could not be read only the
    place is known: it becomes what lies there now, if the unit holds as many rows as before, and
    that image in no other row.

    Args:
        folder: of the run.
        manifest: of the unit.
        reasons: first words of errors.
        staged: the unit's rows in the schema STAGED_ROWS, all of them, in its order.
    """
    records = read_records(folder, manifest, ["image_id", "key", "error"])
    ids, now = records["image_id"].to_pylist(), staged["image_id"].to_pylist()
    known, unread = set(ids), _find_unread(records, reasons)
    rows = [
        row
        for row in _find_failed(records, reasons)
        if row < len(now)
        and (
            now[row] == ids[row]
            or (row in unread and len(now) == len(ids) and now[row] not in known)
        )
    ]
    taken = staged.take(pa.array(rows, pa.int64()))
    return replace_columns(taken, unit_rows=[len(rows)] * len(rows))


def heal_unit(
    folder: RunFolder, manifest: Manifest, reasons: Collection[str], staged: pa.Table
) -> Manifest:
    """Commits a unit's next edition: its records, with new ones in place of those done again.

    Args:
        folder: of the run.
        manifest: of the edition that was read.
        reasons: for which rows were done again.
        staged: these rows, as `take_failed` chose them, after all stages.

    Returns:
        The manifest that counts; another's where that came first.

    Raises:
        OSError: the storage failed.
        C3LError: the folder is of another origin, or the records cannot be read.
    """
    try:
        records = read_records(folder, manifest)
    except C3LError:
        healed = _find_healed(folder, manifest)  # by another job, which deleted this file since
        if healed is None:
            raise
        return healed
    new_records = make_records(staged, manifest.origin)
    new_ids = new_records["image_id"].to_pylist()
    ids, unread = records["image_id"].to_pylist(), _find_unread(records, reasons)
    places = list(range(records.num_rows))
    new_row = 0
    for row in _find_failed(records, reasons):
        if new_row < len(new_ids) and (row in unread or ids[row] == new_ids[new_row]):
            places[row] = records.num_rows + new_row
            new_row += 1
    if new_row != len(new_ids):
        raise C3LError(f"unit {manifest.unit}: rows came back that had not failed")
    merged = pa.concat_tables([records, new_records]).take(pa.array(places, pa.int64()))
    counts = _count_merged(merged, manifest.counts, count_staged(staged, new_records))
    healed = Manifest(
        unit=manifest.unit,
        source=manifest.source,
        origin=manifest.origin,
        edition=manifest.edition + 1,
        counts=counts,
    )
    return commit_records(folder, healed, merged)


def _count_merged(merged: pa.Table, earlier: Counts, new: Counts) -> Counts:
    """Counts of a healed unit: of its rows, and of what all its editions took and met."""
    counts = count_records(
        merged,
        notes={**earlier.notes, **new.notes},
        seconds=(earlier + new).seconds,
        scoring={**earlier.scoring, **new.scoring},
    )
    both = earlier + new
    return dataclasses.replace(counts, faults=both.faults, fault_examples=both.fault_examples)


def _find_failed(records: pa.Table, reasons: Collection[str]) -> list[int]:
    """The rows of records that failed for one of these reasons, in their order."""
    errors = records["error"].to_pylist()
    return [
        row
        for row, error in enumerate(errors)
        if error is not None and error_reason(error) in reasons
    ]


def _find_unread(records: pa.Table, reasons: Collection[str]) -> set[int]:
    """Those of the failed rows that could not be read."""
    names = records.select(["key", "error"]).to_pylist()
    return {row for row in _find_failed(records, reasons) if is_unread_row(**names[row])}


def _find_healed(folder: RunFolder, manifest: Manifest) -> Manifest | None:
    later = (other for other in read_manifests(folder) if other.unit == manifest.unit)
    healed = next(later, None)
    return healed if healed is not None and healed.edition > manifest.edition else None
