"""Whole records of the chosen turns: a second pass over a run, of the chosen images only."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa

from c3l_ray.dataset.choose import Choice
from c3l_ray.runs.commit import Manifest, iterate_records
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import Record, replace_columns


class ChosenRecords(NamedTuple):
    """Records with their chosen turns only.

    Attributes:
        table: of the schema RECORDS.
        places: of each record's chosen turns among all of its turns.
        num_turns: that each record has in the run.
    """

    table: pa.Table
    places: list[list[int]]
    num_turns: list[int]

    def take(self, rows: list[int]) -> "ChosenRecords":
        """These records alone, given by their rows."""
        return ChosenRecords(
            self.table.take(pa.array(rows, pa.int64())),
            [self.places[row] for row in rows],
            [self.num_turns[row] for row in rows],
        )


def read_chosen(
    source: RunFolder,
    manifests: Mapping[str, Manifest],
    choice: Choice,
    columns: list[str] | None = None,
) -> Iterator[ChosenRecords]:
    """The chosen records of a run, in the order of its units, a few at a time.

    Args:
        source: the run.
        manifests: of its files, by unit.
        choice: of turns.
        columns: of the records to read, `turns` among them; all of them where none are named.
    """
    for unit in sorted(choice):
        places_of = choice[unit]
        first = 0
        for batch in iterate_records(source, manifests[unit], columns):
            rows = [row for row in sorted(places_of) if first <= row < first + batch.num_rows]
            if rows:
                taken = batch.take(pa.array([row - first for row in rows], pa.int64()))
                yield _keep_turns(
                    pa.Table.from_batches([taken]), [sorted(places_of[row]) for row in rows]
                )
            first += batch.num_rows


def _keep_turns(table: pa.Table, places: list[list[int]]) -> ChosenRecords:
    records: list[Record] = table.select(["turns"]).to_pylist()
    chosen_turns = [
        [record["turns"][place] for place in kept]
        for kept, record in zip(places, records, strict=True)
    ]
    return ChosenRecords(
        replace_columns(table, turns=chosen_turns),
        places,
        [len(record["turns"]) for record in records],
    )
