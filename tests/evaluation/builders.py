"""Turns, tables and runs for the tests of the evaluations."""

from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from c3l_ray.evaluation.judgement import JudgedTurn
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.runs.commit import commit_unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes.truth import Truth
from c3l_ray.schema import RECORDS, STAGED_ROWS, VERSION, Turn, conform
from tests.examples import RECORD


def make_turn(**fields: Any) -> Turn:
    """The example's turn, with some fields replaced."""
    return cast(Turn, {**RECORD["turns"][0], **fields})


def make_judged_turn(
    truth: Truth | None, score: float | None = None, image: str = "", **fields: Any
) -> JudgedTurn:
    """A turn that was judged; one score is the value of all of its scores."""
    scores = dict.fromkeys(SCORE_NAMES, score)
    return JudgedTurn(image=image, truth=truth, turn=make_turn(scores=scores, **fields))


def make_table(*records: dict[str, Any]) -> pa.Table:
    """A table of copies of the example, with some fields replaced in each."""
    rows = [{**RECORD, **record} for record in records]
    return conform({name: [row[name] for row in rows] for name in RECORDS.names}, RECORDS)


def write_run(path: Path, *records: dict[str, Any]) -> None:
    """A finished run of one unit: copies of the example, with some fields replaced in each."""
    folder = RunFolder.open(str(path))
    table = make_table(*records)
    columns = {name: table[name].combine_chunks() for name in RECORDS.names}
    del columns["status"], columns["origin"]
    staged = conform(
        {**columns, "unit": ["unit"] * len(records), "unit_rows": [len(records)] * len(records)},
        STAGED_ROWS,
    )
    manifest = commit_unit(folder, "unit", "scenes.tar", staged, "origin")
    report = {
        "job": "generate",
        "identity": {"schema": VERSION},
        "origin": "origin",
        "finished": "2026-01-01T00:00:00+00:00",
        "correction_tokens": manifest.counts.correction_tokens,
    }
    folder.write_json("run.json", report)
