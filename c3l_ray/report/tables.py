"""Tables of a page, and how numbers stand in them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from c3l_ray.report.figures import format_number

SMALL = 0.01


class Table(NamedTuple):
    """A table of texts: the first column names the rows.

    Attributes:
        head: of all columns.
        rows: each with a cell for every column.
        is_numeric: whether the cells after the first are numbers, which are aligned as such.
    """

    head: list[str]
    rows: list[list[str]]
    is_numeric: bool = True


def count_up(number: int) -> str:
    return f"{number:,}"


def format_share(part: float, whole: float) -> str:
    """A share in percent, or a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def format_value(value: float | None) -> str:
    """A measured number, with three digits behind the point unless it is small; or a dash."""
    if value is None or value != value:
        return "-"
    return format_number(value) if 0 < abs(value) < SMALL else f"{value:.3f}"


def tabulate(names: Iterable[str], columns: Sequence[Mapping[str, str]]) -> Table:
    """A table whose columns are these; what is a dash everywhere is left out."""
    labels = list(dict.fromkeys(label for column in columns for label in column))
    rows = [[label, *(column.get(label, "-") for column in columns)] for label in labels]
    return Table(["", *names], [row for row in rows if {*row[1:]} != {"-"}], is_numeric=False)
