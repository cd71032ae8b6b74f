"""What tables of the page are made of: cells, rows, and which differences are beyond doubt."""

import math
from collections.abc import Iterable, Mapping, Sequence

from tests.evidence.bootstrap import Interval
from tests.evidence.measures import Measure

Found = Mapping[tuple[str, str], Measure]
"""By measure and group."""


def index_measures(measures: Iterable[Measure]) -> Found:
    return {(measure.measure, measure.group): measure for measure in measures}


def format_table(corner: str, titles: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A table in Markdown, its numbers to the right."""
    lines = [f"| {corner} | {' | '.join(titles)} |", "| --- |" + " ---: |" * len(titles)]
    lines += [f"| {label} | {' | '.join(cells)} |" for label, cells in rows.items()]
    return "\n".join(lines)


def format_interval(interval: Interval, *, digits: int, scale: float = 1.0) -> str:
    """The estimate and its bounds, as 81.4 [80.2, 82.5]; a dash where there is no number."""
    if math.isnan(interval.estimate):
        return "-"
    estimate, low, high = (
        f"{round(scale * value, digits) + 0.0:.{digits}f}"  # no minus before a zero
        for value in (interval.estimate, interval.low, interval.high)
    )
    return estimate if math.isnan(interval.low) else f"{estimate} [{low}, {high}]"


def list_differences(found: Found, differences: Mapping[str, tuple[str, str]]) -> str:
    """Which differences are above 0 by more than their interval, and which below.

    Args:
        found: the measures.
        differences: by name for people, the measure and the group.
    """
    signs: dict[str, list[str]] = {"above": [], "below": []}
    for name, key in differences.items():
        if key in found and found[key].interval.low > 0:
            signs["above"].append(name)
        elif key in found and found[key].interval.high < 0:
            signs["below"].append(name)
    return "; ".join(f"{sign}: {', '.join(names) or 'none'}" for sign, names in signs.items())


def titled_table(
    title: str, corner: str, titles: Sequence[str], rows: Mapping[str, Sequence[str]]
) -> list[str]:
    """A title and a table of the rows that have a number; nothing where none has."""
    filled = {label: cells for label, cells in rows.items() if any(cell != "-" for cell in cells)}
    return [title, format_table(corner, titles, filled)] if filled else []


def arm_table(found: Found, arms: Sequence[str], columns: Mapping[str, tuple[str, str]]) -> str:
    """A row for each arm: its repetitions, and its measures in percent."""
    (first, first_group), *_ = columns.values()
    return format_table(
        "tuned on",
        ["seeds", *columns],
        {
            f"`{arm}`": [
                ", ".join(map(str, found[first.format(arm), first_group].seeds)),
                *(
                    percent(found, measure.format(arm), group)
                    for measure, group in columns.values()
                ),
            ]
            for arm in arms
            if (first.format(arm), first_group) in found
        },
    )


def percent(found: Found, measure: str, group: str) -> str:
    """A share as a cell, in percent."""
    return number(found, measure, group, digits=1, scale=100)


def number(found: Found, measure: str, group: str, *, digits: int = 2, scale: float = 1.0) -> str:
    """A measure as a cell; a dash where it is not there."""
    one = found.get((measure, group))
    return "-" if one is None else format_interval(one.interval, digits=digits, scale=scale)


def list_repetitions(found: Found, measure: str, group: str) -> str:
    """The differences of the single repetitions as a cell, in points."""
    one = found.get((measure, group))
    return "-" if one is None else ", ".join(f"{100 * value:+.1f}" for value in one.by_seed)
