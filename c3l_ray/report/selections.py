"""What selections kept of a run, by kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from c3l_ray import storage
from c3l_ray.errors import C3LError
from c3l_ray.methods.scores import LOWER_IS_BETTER, SCORE_NAMES
from c3l_ray.report.gather import Dataset
from c3l_ray.report.tables import Table, count_up, format_share, format_value
from c3l_ray.report.turn_table import TurnTable
from c3l_ray.runs.folder import PARTS


@dataclass(frozen=True, kw_only=True)
class KeptTurns:
    """What a selection kept: its dataset, a sentence on how, and a table by kind.

    Attributes:
        left_out: turns and images by why they were left out.
        worst: the worst kept score of each kind.
    """

    dataset: Dataset
    sentence: str
    table: Table
    left_out: Table
    worst: Mapping[str, float]


def describe_selection(dataset: Dataset, table: TurnTable) -> KeptTurns:
    """What a selection from a run kept, by kind.

    Raises:
        C3LError: a file of the dataset cannot be read.
    """
    selection = dataset.selection
    by = str(selection.get("by"))
    has_score = by in SCORE_NAMES
    score = by if has_score else "i2c"  # --by random takes the turns that have this one
    kept = _read_kept(dataset, score)
    is_ok = table.is_ok() & np.isfinite(table.values(score))
    scored = selection.get("scored_turns") or 0
    all_kept = len(kept)
    kinds = np.asarray(kept["kind"])
    rows, worst = [], {}
    for kind in table.kinds:
        values = kept["score"].to_numpy()[kinds == kind] if all_kept else np.empty(0)
        share = (table.is_kind(kind) & is_ok).sum() / max(1, is_ok.sum())
        finite = values[np.isfinite(values)]
        if len(finite) and has_score:
            worst[kind] = float(finite.max() if by in LOWER_IS_BETTER else finite.min())
        rows.append(
            [
                kind,
                format_share(share, 1),
                count_up(len(values)),
                format_share(len(values), all_kept),
                format_share(len(values), share * scored),
                *([format_value(worst.get(kind))] if has_score else []),
            ]
        )
    head = [
        "kind",
        "of scored turns",
        "kept",
        "of kept turns",
        "kept of its kind",
        *([f"worst kept {by}"] if has_score else []),
    ]
    return KeptTurns(
        dataset=dataset,
        sentence=_describe_choice(selection),
        table=Table(head, rows),
        left_out=_tabulate_left_out(selection),
        worst=worst,
    )


def _read_kept(dataset: Dataset, score: str) -> pa.Table:
    """Kind and score of every turn of a dataset; of a preference pair, those of the better one."""
    column = "chosen_score" if dataset.selection.get("export") == "preference" else score
    parts = [
        child
        for folder in (dataset.folder.location, dataset.folder.location / PARTS)
        for child in folder.list_children()
        if child.name.startswith("part-") and child.name.endswith(".parquet")
    ]
    tables = [pa.table({"kind": pa.array([], pa.string()), "score": pa.array([], pa.float64())})]
    for part in parts:
        try:
            with part.open() as opened:
                rows = pq.ParquetFile(opened).read(["kind", column])
        except (*storage.ERRORS, pa.ArrowException) as error:
            raise C3LError(f"{part.address} cannot be read: {error}") from error
        kinds, values = (_flatten(rows[name]) for name in ("kind", column))
        floats = pc.cast(values, pa.float64()).to_numpy()
        tables.append(pa.table({"kind": kinds, "score": floats}))
    return pa.concat_tables(tables).combine_chunks()


def _flatten(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A value for each turn, where a row may hold the turns of an image."""
    return pc.list_flatten(values) if pa.types.is_list(values.type) else values


def _describe_choice(selection: Mapping[str, Any]) -> str:
    """How a selection chose, in a sentence or two."""
    top, at_least = selection.get("top"), selection.get("at_least")
    flags = f"--by {selection.get('by')} --within {selection.get('within')}"
    flags += f" --per {selection.get('per')}"
    flags += f" --top {top:g}" if top is not None else ""
    flags += f" --at-least {at_least:g}" if at_least is not None else ""
    threshold = selection.get("threshold")
    state = "" if selection.get("finished") else " It is not finished."
    worst = (
        ""
        if threshold is None
        else f" The worst kept {_threshold_word(selection)} is {threshold:.4g}."
    )
    return (
        f"{count_up(selection.get('turns') or 0)} turns about "
        f"{count_up(selection.get('images') or 0)} images were kept of "
        f"{count_up(selection.get('scored_turns') or 0)} scored turns by {flags}."
        f"{worst}{state}"
    )


def _tabulate_left_out(selection: Mapping[str, Any]) -> Table:
    """What was left out before turns were ranked, and after; a dash where nothing was counted."""
    benchmarks = selection.get("exclude_benchmark") or []
    compares = benchmarks or selection.get("drop_near_duplicates")
    rows: list[tuple[str, str | None, str | None]] = [
        ("the image refutes them (gain < 0)", None, "refuted_turns"),
    ]
    if selection.get("at_least") is not None:
        rows.append(("they are worse than --at-least", None, "worse_turns"))
    if benchmarks:
        names = ", ".join(map(str, benchmarks))
        rows.append((f"a benchmark has the image ({names})", "excluded_images", None))
    if selection.get("drop_near_duplicates"):
        rows.append(("the image looks like an earlier one", "near_duplicate_images", None))
    if compares:
        rows.append(("their image is left out for one of these reasons", None, "excluded_turns"))
    rows.append(("the image cannot be decoded", "unusable_images", None))

    def count(name: str | None) -> str:
        return "-" if name is None else count_up(selection.get(name) or 0)

    texts = [[reason, count(images), count(turns)] for reason, images, turns in rows]
    unpaired = selection.get("unpaired_turns") or {}
    texts += [[f"no pair: {reason}", "-", count_up(number)] for reason, number in unpaired.items()]
    if compares:
        not_compared = count("not_compared_images")
        texts.append(["could not be compared, and stay", not_compared, "-"])
    return Table(["left out because", "images", "turns"], texts)


def _threshold_word(selection: Mapping[str, Any]) -> str:
    within = selection.get("within")
    return "score" if within == "dataset" else "percentile rank"
