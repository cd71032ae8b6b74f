"""What the turns of a run are like: how many, how varied, how they score."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from c3l_ray.methods import ranking
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.runs.commit import Manifest, read_manifests, read_records
from c3l_ray.runs.folder import RunFolder

MAX_SAMPLED_FILES = 200
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
    step = max(1, -(-len(manifests) // MAX_SAMPLED_FILES))
    columns = [f"turns.list.element.{name}" for name in fields]
    return [
        pc.list_flatten(read_records(folder, manifest, columns)["turns"]).combine_chunks()
        for manifest in manifests[::step]
    ]


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


def measure_length_correlation(
    folder: RunFolder, manifests: Sequence[Manifest]
) -> dict[str, float | None]:
    """Spearman's correlation of each score with the answer's length in characters.

    Over the scored turns of a sample of files where there are many; None for a score that has
    no values, or only one. A score that follows length ranks long answers, not grounded ones.
    """
    lengths, scores = [], []
    for turns in sample_turns(folder, manifests, ("answer", "scores")):
        scored = turns.filter(pc.is_valid(pc.struct_field(turns, "scores")))
        lengths.append(pc.utf8_length(pc.struct_field(scored, "answer")))
        scores.append(pc.struct_field(scored, "scores"))
    if not scores:
        return dict.fromkeys(SCORE_NAMES)
    length, score = pa.concat_arrays(lengths), pa.concat_arrays(scores)
    correlations = {}
    for name in SCORE_NAMES:
        values = pc.struct_field(score, name)
        is_number = pc.fill_null(pc.is_finite(values), False)
        correlation = ranking.spearman(values.filter(is_number), length.filter(is_number))
        correlations[name] = None if correlation is None else round(correlation, 3)
    return correlations
