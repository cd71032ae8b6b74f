"""What is counted of records: of a unit in its manifest, and summed over a run in run.json."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from c3l_ray.methods.alternatives import has_differing_answers, is_replaced
from c3l_ray.schema import Record, error_reason


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counts of some records; two of them add up.

    Attributes:
        images: rows.
        status: images by status.
        reasons: failed images by the first word of their error.
        failure_examples: for each reason, one image and its whole error.
        turns: of all images.
        turn_status: turns by status.
        thoughts: turns that were read from a reply after a thought.
        scoring: units by how they were scored: "packed" or "plain".
        faults: what scoring failed with on some turns, by the exception's type.
        fault_examples: for each of these, one image and its whole message.
        tokens: generated, those of corrections and alternatives included.
        correction_outcomes: corrected turns by how that ended.
        correction_tokens: "generated" for corrections, and "kept" of them in answers.
        sampled_questions: to which more answers were sampled.
        sampled_answers: to all of them.
        alternative_status: alternatives, equal answers to a question being one, by status.
        differing_questions: questions with two usable answers that are not the same text, the
            turn's own included.
        replaced_answers: turns whose first answer a better alternative took the place of.
        notes: what processes wanted the user to know, and for how many units.
        seconds: spent by each stage.
    """

    images: int = 0
    status: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    failure_examples: dict[str, str] = field(default_factory=dict)
    turns: int = 0
    turn_status: dict[str, int] = field(default_factory=dict)
    thoughts: int = 0
    scoring: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    fault_examples: dict[str, str] = field(default_factory=dict)
    tokens: int = 0
    correction_outcomes: dict[str, int] = field(default_factory=dict)
    correction_tokens: dict[str, int] = field(default_factory=dict)
    sampled_questions: int = 0
    sampled_answers: int = 0
    alternative_status: dict[str, int] = field(default_factory=dict)
    differing_questions: int = 0
    replaced_answers: int = 0
    notes: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> "Counts":
        """The counts in a run.json, which has more than these."""
        return cls(**{count.name: report[count.name] for count in dataclasses.fields(cls)})

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            **{
                count.name: _add(getattr(self, count.name), getattr(other, count.name))
                for count in dataclasses.fields(self)
            }
        )


def _add(first: Any, second: Any) -> Any:
    if not isinstance(first, dict):
        return first + second
    total = dict(first)
    for name, value in second.items():
        if isinstance(value, str):  # of examples, the first stays
            total.setdefault(name, value)
        else:
            total[name] = total.get(name, 0) + value
    return total


def count_records(
    records: pa.Table,
    *,
    notes: Iterable[str],
    seconds: dict[str, float],
    scoring: Iterable[str] = (),
    faults: Sequence[Sequence[str] | None] = (),
) -> Counts:
    """Counts a unit's records.

    Args:
        records: in the schema RECORDS.
        notes: of the processes that made them.
        seconds: that each stage took.
        scoring: how they were scored.
        faults: of scoring, of each record.
    """
    columns = ["source", "key", "error", "status", "turns"]
    rows: list[Record] = records.select(columns).to_pylist()
    failures = [
        (error_reason(row["error"] or ""), f"{row['source']} {row['key']}: {row['error']}")
        for row in rows
        if row["status"] == "failed"
    ]
    faulty = [
        (error_reason(fault), f"{row['source']} {row['key']}: {fault}")
        for row, faults_of_row in zip(rows, faults, strict=bool(faults))
        for fault in faults_of_row or ()
    ]
    turns = [turn for row in rows for turn in row["turns"]]
    corrections = [turn["correction"] for turn in turns if turn["correction"] is not None]
    alternatives = [other for turn in turns for other in turn["alternatives"] or ()]
    return Counts(
        images=len(rows),
        status=dict(Counter(row["status"] for row in rows)),
        reasons=dict(Counter(reason for reason, _ in failures)),
        failure_examples=dict(reversed(failures)),
        turns=len(turns),
        turn_status=dict(Counter(turn["status"] for turn in turns)),
        thoughts=sum(turn["thought"] is not None for turn in turns),
        scoring=dict.fromkeys(scoring, 1),
        faults=dict(Counter(reason for reason, _ in faulty)),
        fault_examples=dict(reversed(faulty)),
        tokens=sum(turn["num_tokens"] or 0 for turn in turns),
        correction_outcomes=dict(Counter(correction["outcome"] for correction in corrections)),
        correction_tokens={
            "generated": sum(correction["generated_tokens"] for correction in corrections),
            "kept": sum(correction["kept_tokens"] for correction in corrections),
        },
        sampled_questions=sum(turn["alternatives"] is not None for turn in turns),
        sampled_answers=sum(other["num_samples"] for other in alternatives),
        alternative_status=dict(Counter(other["status"] for other in alternatives)),
        differing_questions=sum(map(has_differing_answers, turns)),
        replaced_answers=sum(map(is_replaced, turns)),
        notes=dict.fromkeys(notes, 1),
        seconds=seconds,
    )


def list_counts(counts: Mapping[str, int]) -> str:
    """Counts by name, the largest first, such as "ok 12, failed 3"; "none" where there are none."""
    largest_first = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count}" for name, count in largest_first) or "none"
