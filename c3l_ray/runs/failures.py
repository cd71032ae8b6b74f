"""The failed images of a run, read from the manifests that count some and from columns only."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow.compute as pc

from c3l_ray.errors import PreflightError
from c3l_ray.runs.commit import Manifest, read_manifests, read_records
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import EXCEPTION, FATAL, error_reason

_UNREAD = re.compile(r"\S+-\d{5} \d{5}")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An image that failed.

    Attributes:
        source: its shard.
        key: its name there.
        image_id: of its record.
        reason: the first word of its error.
        error: the whole of it.
    """

    source: str
    key: str
    image_id: str
    reason: str
    error: str


def find_failures(folder: RunFolder, reasons: Sequence[str] = ()) -> Iterator[Failure]:
    """The failed images of a run, in the order of its units.

    Args:
        folder: of the run.
        reasons: of failures to find; all of them where none is named.

    Raises:
        PreflightError: no image failed for one of the reasons.
        C3LError: a manifest or its file cannot be read.
    """
    manifests = [manifest for manifest in read_manifests(folder) if manifest.counts.reasons]
    present = Counter[str]()
    for manifest in manifests:
        present.update(manifest.counts.reasons)
    refuse_unknown_reasons(reasons, present, "--reason")
    wanted = set(reasons) or set(present)
    affected = [manifest for manifest in manifests if wanted & manifest.counts.reasons.keys()]
    with ThreadPoolExecutor(16) as readers:
        for failures in readers.map(lambda manifest: _read_failures(folder, manifest), affected):
            yield from (failure for failure in failures if failure.reason in wanted)


def refuse_unknown_reasons(reasons: Iterable[str], present: Iterable[str], flag: str) -> None:
    """Refuses reasons that no image failed for.

    Args:
        reasons: that were named.
        present: those of the run.
        flag: that named them.

    Raises:
        PreflightError: one is not among those of the run.
    """
    known = sorted(present)
    for reason in reasons:
        if reason not in known:
            others = f"; the reasons are {', '.join(known)}" if known else ", or for any reason"
            raise PreflightError(f"{flag} {reason}: no image failed for it{others}")


def name_unread_row(unit: str, row: int) -> str:
    """The key of a row that could not be read, so that nothing but its place is known."""
    return f"{unit} {row:05d}"


def is_unread_row(key: str, error: str) -> bool:
    """Whether a failed row was named by `name_unread_row`."""
    return _UNREAD.fullmatch(key) is not None and error_reason(error) in (EXCEPTION, FATAL)


def _read_failures(folder: RunFolder, manifest: Manifest) -> list[Failure]:
    columns = ["source", "key", "image_id", "error", "status"]
    records = read_records(folder, manifest, columns)
    failed = records.filter(pc.equal(records["status"], "failed")).drop_columns("status")
    return [Failure(**row, reason=error_reason(row["error"])) for row in failed.to_pylist()]
