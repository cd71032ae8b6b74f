"""Reports of jobs, with some of their fields given."""

from typing import Any

from c3l_ray.dataset.report import SelectionReport
from c3l_ray.runs.report import RecordsReport


def make_records_report(**fields: Any) -> RecordsReport:
    defaults: dict[str, Any] = {"job": "generate", "origin": "o", "identity": {}, "config": {}}
    return RecordsReport(**{**defaults, "seconds": {"wall": 12.0}, **fields})


def make_selection_report(**fields: Any) -> SelectionReport:
    defaults: dict[str, Any] = {
        "input": "run",
        "input_finished": None,
        "origin": "o",
        "output": "dataset",
        "by": "i2c",
        "within": "dataset",
        "per": "dataset",
        "top": 0.1,
        "seed": 0,
        "group": "turn",
        "require_gain": True,
        "threshold": 0.25,
        "scored_turns": 10,
        "refuted_turns": 0,
        "turns": 1,
        "images": 1,
    }
    return SelectionReport(**{**defaults, **fields})
