"""The turns of a run as columns without images: all of them, or a sample of its files.

A sample takes files shard by shard in turn, so that every shard has its share, in an order that
their units' names alone decide: the rounds of C3L over the same images are sampled alike.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from c3l_ray.methods.ranking import uniform_from
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.report.gather import Run
from c3l_ray.runs.commit import Manifest, read_records

MAX_TURNS_READ = 500_000

log = logging.getLogger(__name__)

_FIELDS = (
    *("kind", "instruction", "question", "answer", "draft", "status", "scores"),
    "alternatives.list.element.num_samples",
)
_EMPTY = pa.schema(
    [
        *((name, pa.int64()) for name in ("unit", "row", "place", "length")),
        *((name, pa.string()) for name in ("image_id", "kind", "status", "question", "answer")),
        *((name, pa.bool_()) for name in ("is_corrected", "has_alternatives")),
        *((name, pa.float64()) for name in SCORE_NAMES),
    ]
)


@dataclass(frozen=True, kw_only=True)
class TurnTable:
    """The turns of a run that were read.

    Attributes:
        run: whose turns they are.
        manifests: of the files that were read; a turn's `unit` is a place in here.
        columns: a row for each turn: unit, row and place in the row, image_id, kind, status,
            question, answer, its length in characters, whether it was corrected or has
            alternatives, and a column for each score, NaN where there is none.
        instructions: of the turns, by kind and text.
    """

    run: Run
    manifests: Sequence[Manifest]
    columns: pa.Table
    instructions: Counter[tuple[str, str]]

    @property
    def is_sample(self) -> bool:
        return len(self.manifests) < len(self.run.manifests)

    @property
    def kinds(self) -> list[str]:
        """In the order of their numbers of turns, then by name."""
        return _rank_values(self.columns["kind"])

    def is_ok(self) -> NDArray[np.bool_]:
        return np.asarray(pc.equal(self.columns["status"], "ok"))

    def values(self, score: str) -> NDArray[np.float64]:
        """A score of every turn, NaN where there is none."""
        return self.columns[score].to_numpy()

    def is_kind(self, kind: str) -> NDArray[np.bool_]:
        return np.asarray(pc.equal(self.columns["kind"], kind))


def read_turns(run: Run, max_turns: int = MAX_TURNS_READ) -> TurnTable:
    """The turns of a run, or of a sample of its files that holds about so many turns.

    Raises:
        C3LError: a file of records cannot be read.
    """
    manifests = choose_files(run.manifests, max_turns)
    log.info(
        "%s: reading the turns of %d of %d files", run.name, len(manifests), len(run.manifests)
    )
    instructions: Counter[tuple[str, str]] = Counter()
    tables = [_EMPTY.empty_table()]
    for number, manifest in enumerate(manifests):
        table, counted = _read_file(run, number, manifest)
        tables.append(table)
        instructions += counted
    return TurnTable(
        run=run,
        manifests=manifests,
        columns=pa.concat_tables(tables).combine_chunks(),
        instructions=instructions,
    )


def choose_files(manifests: Sequence[Manifest], max_turns: int) -> list[Manifest]:
    """Files that hold at most so many turns, or one file; of every shard about the same share."""
    by_shard = defaultdict(list)
    for manifest in sorted(manifests, key=lambda manifest: uniform_from(manifest.unit)):
        by_shard[manifest.source].append(manifest)
    shards = sorted(by_shard, key=uniform_from)
    chosen: list[Manifest] = []
    num_turns = 0
    for manifest in (
        one for rank in zip_longest(*(by_shard[shard] for shard in shards)) for one in rank
    ):
        if manifest is None:
            continue
        num_turns += manifest.counts.turns
        if chosen and num_turns > max_turns:
            break
        chosen.append(manifest)
    return sorted(chosen, key=lambda manifest: manifest.unit)


def _read_file(
    run: Run, number: int, manifest: Manifest
) -> tuple[pa.Table, Counter[tuple[str, str]]]:
    """The turns of one file as columns, and the instructions among them."""
    names = ["image_id", *(f"turns.list.element.{field}" for field in _FIELDS)]
    records = read_records(run.folder, manifest, names).combine_chunks()
    if not records.num_rows:
        return _EMPTY.empty_table(), Counter()
    lists = records["turns"].chunk(0)
    turns = lists.flatten()
    rows = pc.list_parent_indices(lists)
    offsets = np.asarray(lists.offsets)
    places = np.arange(len(turns)) - (offsets[:-1] - offsets[0])[np.asarray(rows)]
    text = {name: turns.field(name) for name in ("kind", "status", "question", "answer", "draft")}
    differs = pc.fill_null(pc.not_equal(text.pop("draft"), text["answer"]), False)
    scores = turns.field("scores")
    columns: dict[str, Any] = {
        "unit": pa.array(np.full(len(turns), number)),
        "row": pc.cast(rows, pa.int64()),
        "place": pa.array(places, pa.int64()),
        "length": pc.cast(pc.utf8_length(text["answer"]), pa.int64()),
        "image_id": records["image_id"].chunk(0).take(rows),
        **text,
        "is_corrected": differs,
        "has_alternatives": pc.fill_null(
            pc.greater(pc.list_value_length(turns.field("alternatives")), 0), False
        ),
        **{name: _as_floats(pc.struct_field(scores, name)) for name in SCORE_NAMES},
    }
    pairs = zip(text["kind"].to_pylist(), turns.field("instruction").to_pylist(), strict=True)
    return pa.table({name: columns[name] for name in _EMPTY.names}, schema=_EMPTY), Counter(pairs)


def _as_floats(values: pa.Array) -> pa.Array:
    """Scores as numbers, NaN where there is none or it is infinite."""
    floats = pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
    return pa.array(np.where(np.isfinite(floats), floats, np.nan))


def _rank_values(column: pa.ChunkedArray) -> list[str]:
    counted = Counter(
        {pair["values"]: pair["counts"] for pair in pc.value_counts(column).to_pylist()}
    )
    return sorted(counted, key=lambda value: (-counted[value], value))
