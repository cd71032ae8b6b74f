"""Which turns a report shows, and their whole rows: the only ones whose images are read."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from c3l_ray.methods import ranking
from c3l_ray.methods.scores import LOWER_IS_BETTER
from c3l_ray.report.gather import Run
from c3l_ray.report.turn_table import TurnTable
from c3l_ray.runs.commit import Manifest, read_records
from c3l_ray.schema import Record, Turn, error_reason

GROUPS = {
    "best": "Best of each kind",
    "middling": "Middling of each kind",
    "worst": "Worst of each kind",
    "corrected": "Corrected answers",
    "alternatives": "With alternative answers",
    "unusable": "Not usable",
    "others": "Others, drawn at random",
}
"""What a turn is shown for, the first that holds, and the heading of these turns."""

MAX_PER_GROUP = 6  # of a kind, or of a status
MAX_SPECIAL = 12  # corrected ones, and ones with alternatives
MAX_UNITS_SAMPLED = 24  # files whose images are read for turns that are drawn at random
MAX_FAILURES = 4  # images of a reason


@dataclass(frozen=True, kw_only=True)
class ShownTurn:
    """A turn with what its page needs of its row.

    Attributes:
        group: what it is shown for, of GROUPS.
        rank: its percentile rank by the report's score among the turns of its kind that were read,
            where 1 is best; None where it has no score.
        record: its row, with all of its turns.
        place: of the turn among them.
    """

    group: str
    rank: float | None
    record: Record
    place: int

    @property
    def turn(self) -> Turn:
        return self.record["turns"][self.place]


@dataclass(frozen=True, kw_only=True)
class FailedImage:
    """A failed image of a run: the countable word of its error, and its row."""

    reason: str
    record: Record


@dataclass(frozen=True)
class _Address:
    """Where a turn lies: its file's unit, its row in it, and its place in the row."""

    unit: str
    row: int
    place: int


def choose_turns(table: TurnTable, by: str, max_turns: int) -> list[ShownTurn]:
    """At most about so many turns of a run: extremes of each kind, what is special, a sample.

    Args:
        table: of the run.
        by: the score that ranks them.
        max_turns: to show.

    Raises:
        C3LError: a file of records cannot be read.
    """
    ranks = rank_turns(table, by)
    chosen: dict[int, str] = {}  # the group of each row of the table, the first that holds
    kinds = table.kinds
    per_group = max(1, min(MAX_PER_GROUP, max_turns // (6 * max(1, len(kinds)))))
    for group in ("best", "middling", "worst"):
        for kind in kinds:
            places = np.flatnonzero(table.is_kind(kind) & np.isfinite(ranks))
            distance = {"best": -ranks, "middling": abs(ranks - 0.5), "worst": ranks}[group]
            ordered = places[np.argsort(distance[places], kind="stable")]
            for row in _take_different(table, ordered, per_group):
                chosen.setdefault(row, group)
    for group, column in (("corrected", "is_corrected"), ("alternatives", "has_alternatives")):
        rows = np.flatnonzero(np.asarray(table.columns[column]))
        for row in rows[_spread(len(rows), MAX_SPECIAL)]:
            chosen.setdefault(int(row), group)
    unusable = _find_unusable(table, min(MAX_PER_GROUP, max(1, max_turns // 20)))
    for row in _draw_others(table, ranks, max_turns - len(chosen) - len(unusable)):
        chosen.setdefault(row, "others")
    groups = {_address_of(table, row): (group, ranks[row]) for row, group in chosen.items()}
    groups = {**dict.fromkeys(unusable, ("unusable", np.nan)), **groups}
    records = _read_rows(table.run, {(address.unit, address.row) for address in groups})
    shown = [
        ShownTurn(
            group=group,
            rank=float(rank) if np.isfinite(rank) else None,
            record=records[address.unit, address.row],
            place=address.place,
        )
        for address, (group, rank) in groups.items()
    ]
    order = list(GROUPS)
    return sorted(
        shown,
        key=lambda turn: (
            order.index(turn.group),
            kinds.index(turn.turn["kind"]) if turn.turn["kind"] in kinds else len(kinds),
            -(turn.rank or 0.0) if turn.group == "best" else (turn.rank or 0.0),
        ),
    )


def rank_turns(table: TurnTable, by: str) -> NDArray[np.float64]:
    """Percentile ranks of the good turns among their kinds, 1 is best; NaN without the score."""
    values = table.values(by) * (-1 if by in LOWER_IS_BETTER else 1)
    has_score = table.is_ok() & np.isfinite(values)
    ranks = np.full(len(values), np.nan)
    if has_score.any():
        kinds = np.asarray(table.columns["kind"])[has_score]
        ranks[has_score] = ranking.percentile_rank(values[has_score], kinds)
    return ranks


def find_failures(run: Run) -> list[FailedImage]:
    """Some failed images for each reason that the manifests count.

    Raises:
        C3LError: a file of records cannot be read.
    """
    missing = {reason: min(MAX_FAILURES, count) for reason, count in run.counts.reasons.items()}
    wanted: dict[str, dict[int, str]] = defaultdict(dict)
    for manifest in run.manifests:
        if not any(missing.get(reason) for reason in manifest.counts.reasons):
            continue
        table = read_records(run.folder, manifest, ["status", "error"])
        for row, record in enumerate(table.to_pylist()):
            reason = error_reason(record["error"] or "")
            if record["status"] == "failed" and missing.get(reason):
                missing[reason] -= 1
                wanted[manifest.unit][row] = reason
    records = _read_rows(run, {(unit, row) for unit, rows in wanted.items() for row in rows})
    failures = [
        FailedImage(reason=reason, record=records[unit, row])
        for unit, rows in wanted.items()
        for row, reason in rows.items()
    ]
    counts = run.counts.reasons
    return sorted(failures, key=lambda failure: (-counts[failure.reason], failure.reason))


def _take_different(table: TurnTable, ordered: NDArray[np.int64], count: int) -> list[int]:
    """The first rows of an order that differ in image and in answer."""
    taken: list[int] = []
    seen: set[tuple[str, object]] = set()
    for row in ordered[: 100 * count].tolist():
        marks = {(name, table.columns[name][row].as_py()) for name in ("image_id", "answer")}
        if not marks & seen:
            taken.append(row)
            seen |= marks
        if len(taken) == count:
            break
    return taken


def _draw_others(table: TurnTable, ranks: NDArray[np.float64], count: int) -> list[int]:
    """Rows of few files, from every kind and fifth of its ranks alike."""
    if count <= 0 or not table.columns.num_rows:
        return []
    drawn_units = _spread(len(table.manifests), MAX_UNITS_SAMPLED)
    units = table.columns["unit"].to_numpy()
    candidates = np.flatnonzero(np.isin(units, drawn_units) & np.isfinite(ranks))
    candidates = np.random.default_rng(0).permutation(candidates)
    fifths = np.minimum(4, (5 * ranks[candidates]).astype(int))
    kinds = np.unique(np.asarray(table.columns["kind"])[candidates], return_inverse=True)[1]
    seen: Counter[int] = Counter()
    order = []
    for stratum in (5 * kinds + fifths).tolist():
        order.append(seen[stratum])
        seen[stratum] += 1
    rows: list[int] = candidates[np.argsort(order, kind="stable")][:count].tolist()
    return rows


def _find_unusable(table: TurnTable, count: int) -> list[_Address]:
    """Some turns of each status but ok that the manifests count."""
    run = table.run
    missing = {
        status: min(count, number)
        for status, number in run.counts.turn_status.items()
        if status != "ok"
    }
    found: list[_Address] = []
    for manifest in run.manifests:
        if not any(missing.get(status) for status in manifest.counts.turn_status):
            continue
        column = read_records(run.folder, manifest, ["turns.list.element.status"])["turns"]
        for row, turns in enumerate(column.to_pylist()):
            for place, turn in enumerate(turns):
                if missing.get(turn["status"]):
                    missing[turn["status"]] -= 1
                    found.append(_Address(manifest.unit, row, place))
    return found


def _address_of(table: TurnTable, row: int) -> _Address:
    unit, place_of_row, place = (
        table.columns[name][row].as_py() for name in ("unit", "row", "place")
    )
    return _Address(table.manifests[unit].unit, place_of_row, place)


def _read_rows(run: Run, rows: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Record]:
    """Whole rows, by unit and place in it; each file is opened once."""
    manifests: dict[str, Manifest] = {manifest.unit: manifest for manifest in run.manifests}
    by_unit: dict[str, list[int]] = defaultdict(list)
    for unit, row in sorted(set(rows)):
        by_unit[unit].append(row)
    records: dict[tuple[str, int], Record] = {}
    for unit, places in by_unit.items():
        table: pa.Table = read_records(run.folder, manifests[unit])
        taken = table.take(pa.array(places, pa.int64())).to_pylist()
        for place, record in zip(places, taken, strict=True):
            records[unit, place] = cast(Record, record)
    return records


def _spread(total: int, count: int) -> NDArray[np.int64]:
    """At most so many places of a sequence, evenly spread."""
    if total <= count:
        return np.arange(total)
    return np.unique(np.linspace(0, total - 1, count).round().astype(np.int64))
