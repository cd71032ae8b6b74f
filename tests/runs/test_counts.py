import dataclasses
from typing import Any

import pyarrow as pa

from c3l_ray.runs.commit import make_records
from c3l_ray.runs.counts import Counts, count_records
from c3l_ray.schema import replace_columns
from tests.examples import RECORD
from tests.runs.tables import stage_three_images

FIRST = Counts(
    images=2,
    status={"ok": 1, "failed": 1},
    failure_examples={"empty": "the first"},
    notes={"slow": 1},
    seconds={"score": 1.5},
)
SECOND = Counts(
    images=3,
    status={"ok": 3},
    failure_examples={"empty": "the second", "no_image": "another"},
    notes={"slow": 1, "restarted": 1},
    seconds={"score": 0.5, "generate": 1.0},
)


def test_counts_add_up_and_the_first_example_of_a_reason_stays() -> None:
    assert (
        Counts(
            images=5,
            status={"ok": 4, "failed": 1},
            failure_examples={"empty": "the first", "no_image": "another"},
            notes={"slow": 2, "restarted": 1},
            seconds={"score": 2.0, "generate": 1.0},
        )
        == FIRST + SECOND
    )
    assert FIRST + Counts() == Counts() + FIRST == FIRST
    assert FIRST.status == {"ok": 1, "failed": 1}  # adding changes neither


def test_every_field_is_counted() -> None:
    corrected, unusable = RECORD["turns"]
    replaced = {**corrected, "correction": None}
    staged = stage_three_images()
    turns = [[corrected, replaced, unusable], [], None]
    records = make_records(replace_columns(staged, turns=turns), "origin")
    of_unit: dict[str, Any] = {"notes": ["slow"], "seconds": {"score": 1.0}, "scoring": ["packed"]}
    faults = [["ValueError: narrow", "ValueError: dark"], None, []]
    counts = count_records(records, **of_unit, faults=faults)
    assert all(dataclasses.asdict(counts).values())
    assert counts.faults == {"ValueError": 2}
    assert (counts.sampled_questions, counts.sampled_answers) == (2, 4)
    assert counts.alternative_status == {"ok": 2}
    assert (counts.differing_questions, counts.replaced_answers) == (2, 1)
    assert counts.fault_examples == {"ValueError": "a.tar 1: ValueError: narrow"}
    twice = count_records(pa.concat_tables([records] * 2), **of_unit, faults=faults * 2)
    once: dict[str, Any] = {
        "notes": {"slow": 1},
        "seconds": {"score": 1.0},
        "scoring": {"packed": 1},
    }
    assert dataclasses.replace(counts + counts, **once) == twice
