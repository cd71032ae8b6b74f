"""What the turns of a run are like: how many, how varied, how they score."""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from c3l_ray.methods import ranking
from c3l_ray.methods.scores import BEST_SCORE, LOWER_IS_BETTER, SCORE_NAMES
from c3l_ray.runs.commit import Manifest, read_manifests, read_records
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.turn_tables import split_extremes

MAX_SAMPLED_FILES = 200
SCORED_TURN = ("kind", "question", "answer", "scores")  # fields that are read of one
NUM_EXAMPLES = 5  # corrected answers beside their drafts


def sample_turns(
    folder: RunFolder, manifests: Sequence[Manifest], fields: tuple[str, ...]
) -> list[pa.StructArray]:
    """These fields of the turns of at most MAX_SAMPLED_FILES files, spread evenly: one array each.

    Args:
        folder: of the run.
        manifests: of its files.
        fields: of a turn.
    """
    columns = [f"turns.list.element.{name}" for name in fields]
    return [
        pc.list_flatten(read_records(folder, manifest, columns)["turns"]).combine_chunks()
        for manifest in spread_evenly(manifests)
    ]


def spread_evenly(manifests: Sequence[Manifest]) -> Sequence[Manifest]:
    """At most MAX_SAMPLED_FILES of the manifests, spread evenly over them."""
    step = max(1, -(-len(manifests) // MAX_SAMPLED_FILES))
    return manifests[::step]


def describe_turns(folder: RunFolder) -> dict[str, Any]:
    """Good turns, distinct questions and kinds among them, and the mean of each score.

    Of a sample of the run's files where it has many, so that a gain that comes of asking easier
    questions, or the same one again, is seen.
    """
    manifests = [manifest for manifest in read_manifests(folder) if manifest.file]
    arrays = sample_turns(folder, manifests, ("kind", "question", "status", "scores"))
    if not arrays:
        return {"turns": 0, "questions": 0, "kinds": 0, **dict.fromkeys(SCORE_NAMES)}
    turns = pa.concat_arrays(arrays)
    turns = turns.filter(pc.equal(pc.struct_field(turns, "status"), "ok"))
    questions = pc.utf8_lower(pc.struct_field(turns, "question"))
    scores = pc.struct_field(turns, "scores")
    return {
        "turns": len(turns),
        "questions": pc.count_distinct(questions).as_py(),
        "kinds": pc.count_distinct(pc.struct_field(turns, "kind")).as_py(),
        **{name: pc.mean(pc.struct_field(scores, name)).as_py() for name in SCORE_NAMES},
    }


def measure_correction(folder: RunFolder, manifests: Sequence[Manifest]) -> dict[str, Any] | None:
    """What correction did: mean scores of drafts and of answers, and some of both side by side.

    Of a sample of the run's files where it has many; None where no answer was corrected. The means
    are over the turns whose draft and answer both have the score.
    """
    fields = ("correction", "question", "draft", "answer", "draft_scores", "scores")
    arrays = [
        turns.filter(pc.is_valid(pc.struct_field(turns, "correction")))
        for turns in sample_turns(folder, manifests, fields)
    ]
    if not any(map(len, arrays)):
        return None
    turns = pa.concat_arrays(arrays)
    differs = pc.not_equal(pc.struct_field(turns, "draft"), pc.struct_field(turns, "answer"))
    changed = turns.filter(differs)
    means = {}
    for name in SCORE_NAMES:
        both = [pc.struct_field(turns, [side, name]) for side in ("draft_scores", "scores")]
        has_both = pc.and_(*(pc.fill_null(pc.is_finite(values), False) for values in both))
        before, after = (pc.mean(values.filter(has_both)).as_py() for values in both)
        means[name] = {"drafts": before, "answers": after}
    return {
        "turns": len(turns),
        "changed": len(changed),
        "scores": means,
        "examples": [
            {name: turn[name] for name in ("question", "draft", "answer")}
            for turn in changed[:NUM_EXAMPLES].to_pylist()
        ],
    }


def sample_scored_turns(folder: RunFolder, manifests: Sequence[Manifest]) -> pa.Table | None:
    """The scored turns of a sample of files, or None where there is none.

    Args:
        folder: of the run.
        manifests: of its files.

    Returns:
        A table with the columns source and key of the image, kind, question, answer and scores.
    """
    columns = [f"turns.list.element.{name}" for name in SCORED_TURN]
    tables = []
    for manifest in spread_evenly(manifests):
        records = read_records(folder, manifest, ["source", "key", *columns])
        turns = records["turns"].combine_chunks()
        images = records.select(["source", "key"]).take(pc.list_parent_indices(turns))
        turns = pc.list_flatten(turns)
        arrays = [pc.struct_field(turns, name) for name in SCORED_TURN]
        table = pa.table([*images.columns, *arrays], names=["source", "key", *SCORED_TURN])
        tables.append(table.filter(pc.is_valid(table["scores"])))
    return pa.concat_tables(tables).combine_chunks() if any(map(len, tables)) else None


def summarize_scores(turns: pa.Table | None) -> dict[str, Any]:
    """Medians of the scores by kind, and the best and the worst turns by BEST_SCORE.

    Args:
        turns: as `sample_scored_turns` returns them.

    Returns:
        What run.json says: "by", the score; "turns", how many were looked at; "medians", by kind,
        of "turns" and each score; "best" and "worst", turns with "image", "kind", "question",
        "answer" and "scores".
    """
    summary: dict[str, Any] = {"by": BEST_SCORE, "turns": 0, "medians": {}, "best": [], "worst": []}
    if turns is None:
        return summary
    scores = turns["scores"].combine_chunks()
    for kind in pc.unique(turns["kind"]).to_pylist():
        of_kind = scores.filter(pc.equal(turns["kind"], kind).combine_chunks())
        medians = {name: _median(pc.struct_field(of_kind, name)) for name in SCORE_NAMES}
        summary["medians"][kind] = {"turns": len(of_kind), **medians}
    values = pc.struct_field(scores, BEST_SCORE)
    places = pc.indices_nonzero(pc.fill_null(pc.is_finite(values), False))
    order = "ascending" if BEST_SCORE in LOWER_IS_BETTER else "descending"
    ranked = places.take(pc.array_sort_indices(values.take(places), order=order))
    for name, extremes in split_extremes(ranked.to_pylist()).items():
        rows = turns.take(pa.array(extremes, pa.uint64())).to_pylist()
        for row in rows:
            row["image"] = f"{row.pop('source')} {row.pop('key')}"
            row["scores"] = {
                name: value if value is not None and math.isfinite(value) else None
                for name, value in row["scores"].items()
            }
        summary[name] = rows
    return {**summary, "turns": turns.num_rows}


def _median(values: pa.Array) -> float | None:
    finite = values.filter(pc.fill_null(pc.is_finite(values), False))
    if not len(finite):
        return None
    return float(pc.quantile(finite, 0.5)[0].as_py())


def measure_length_correlation(turns: pa.Table | None) -> dict[str, float | None]:
    """Spearman's correlation of each score with the answer's length in characters.

    None for a score that has no values, or only one. A score that follows length ranks long
    answers, not grounded ones.

    Args:
        turns: as `sample_scored_turns` returns them.
    """
    if turns is None:
        return dict.fromkeys(SCORE_NAMES)
    length = pc.utf8_length(turns["answer"]).combine_chunks()
    score = turns["scores"].combine_chunks()
    correlations = {}
    for name in SCORE_NAMES:
        values = pc.struct_field(score, name)
        is_number = pc.fill_null(pc.is_finite(values), False)
        correlation = ranking.spearman(values.filter(is_number), length.filter(is_number))
        correlations[name] = None if correlation is None else round(correlation, 3)
    return correlations
