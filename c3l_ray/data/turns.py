"""What the turns of a run are like: how many, how varied, how they score."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from c3l_ray.data.commit import Manifest, Output
from c3l_ray.schema import SCORE_NAMES

SAMPLED_FILES = 200
NUM_SHOWN = 5  # corrected answers beside their drafts


def sampled(output: Output, files: list[Manifest], fields: tuple[str, ...]) -> list[pa.StructArray]:
    """These fields of the turns of at most SAMPLED_FILES files, spread evenly: one array a file."""
    step = max(1, -(-len(files) // SAMPLED_FILES))
    columns = [f"turns.list.element.{name}" for name in fields]
    return [
        pc.list_flatten(output.records(manifest, columns)["turns"]).combine_chunks()
        for manifest in files[::step]
    ]


def described(output: Output) -> dict[str, Any]:
    """Good turns, distinct questions and kinds among them, and the mean of each score.

    Of a sample of the run's files where it has many, so that a gain that comes of asking easier
    questions, or the same one again, is seen.
    """
    files = [manifest for manifest in output.manifests() if manifest.file]
    found = sampled(output, files, ("kind", "question", "status", "scores"))
    if not found:
        return {"turns": 0, "questions": 0, "kinds": 0, **dict.fromkeys(SCORE_NAMES)}
    turns = pa.concat_arrays(found)
    turns = turns.filter(pc.equal(pc.struct_field(turns, "status"), "ok"))
    questions = pc.utf8_lower(pc.struct_field(turns, "question"))
    scores = pc.struct_field(turns, "scores")
    return {
        "turns": len(turns),
        "questions": pc.count_distinct(questions).as_py(),
        "kinds": pc.count_distinct(pc.struct_field(turns, "kind")).as_py(),
        **{name: pc.mean(pc.struct_field(scores, name)).as_py() for name in SCORE_NAMES},
    }


def corrected(output: Output, files: list[Manifest]) -> dict[str, Any] | None:
    """What correction did: mean scores of drafts and of answers, and some of both side by side.

    Of a sample of the run's files where it has many; None where no answer was corrected. The means
    are over the turns whose draft and answer both have the score.
    """
    fields = ("correction", "question", "draft", "answer", "draft_scores", "scores")
    found = [
        turns.filter(pc.is_valid(pc.struct_field(turns, "correction")))
        for turns in sampled(output, files, fields)
    ]
    if not any(map(len, found)):
        return None
    turns = pa.concat_arrays(found)
    different = pc.not_equal(pc.struct_field(turns, "draft"), pc.struct_field(turns, "answer"))
    changed = turns.filter(different)
    means = {}
    for name in SCORE_NAMES:
        both = [pc.struct_field(turns, [side, name]) for side in ("draft_scores", "scores")]
        there = pc.and_(*(pc.fill_null(pc.is_finite(values), False) for values in both))
        before, after = (pc.mean(values.filter(there)).as_py() for values in both)
        means[name] = {"drafts": before, "answers": after}
    shown = ("question", "draft", "answer")
    return {
        "turns": len(turns),
        "changed": len(changed),
        "scores": means,
        "examples": [
            {name: turn[name] for name in shown} for turn in changed[:NUM_SHOWN].to_pylist()
        ],
    }
