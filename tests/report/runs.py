"""Runs to report on, built of the worked example."""

from pathlib import Path
from typing import Any

from c3l_ray.runs.commit import commit_unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import STAGED_ROWS, conform
from tests.evaluation.builders import make_table
from tests.examples import RECORD
from tests.runs.tables import make_report

GOOD, UNUSABLE = RECORD["turns"]


def make_turn(visual_ifd: float | None = 0.25, **fields: Any) -> dict[str, Any]:
    """A good turn of the example with this visual_ifd, and other fields replaced."""
    scores = {**GOOD["scores"], "visual_ifd": visual_ifd, **fields.pop("scores", {})}
    return {**GOOD, "scores": scores, **fields}


def write_run(path: Path, *units: list[dict[str, Any]], **report: Any) -> Path:
    """A run whose units hold copies of the example with some fields replaced in each.

    A unit's shard is the source of its first record. `error` makes an image a failed one.
    """
    folder = RunFolder.open(str(path))
    folder.write_json("run.json", make_report(**report))
    for number, records in enumerate(units):
        table = make_table(*records)
        columns = {name: table[name].combine_chunks() for name in table.schema.names}
        source = columns["source"][0].as_py()
        del columns["status"], columns["origin"]
        unit = f"u-{number:05d}"
        staged = conform(
            {
                **columns,
                "unit": [unit] * len(records),
                "unit_rows": [len(records)] * len(records),
                "generate_s": [2.0] * len(records),
                "score_s": [1.0] * len(records),
                "notes": [report.get("unit_notes")] * len(records),
            },
            STAGED_ROWS,
        )
        commit_unit(folder, unit, source, staged, report.get("origin", "o"))
    return path


def make_records(count: int, first: int = 0, **fields: Any) -> list[dict[str, Any]]:
    """Images with a good turn each, whose visual_ifd falls from image to image."""
    return [
        {
            "image_id": f"image-{first + number}",
            "key": f"{first + number}",
            "turns": [
                make_turn(1 / (1 + first + number), answer=f"Answer {first + number} is red.")
            ],
            **fields,
        }
        for number in range(count)
    ]
