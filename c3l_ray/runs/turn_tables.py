"""Scores and turns as text for a terminal: tables of numbers, and the best and the worst turns."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

NUM_EXTREMES = 3
MAX_TEXT = 300  # characters of a question or an answer

Ranked = TypeVar("Ranked")


def split_extremes(ranked: Sequence[Ranked]) -> dict[str, list[Ranked]]:
    """The "best" and the "worst" of what is ranked, best first: three each, and none in both."""
    start_of_worst = max(NUM_EXTREMES, len(ranked) - NUM_EXTREMES)
    return {"best": list(ranked[:NUM_EXTREMES]), "worst": list(ranked[start_of_worst:])}


def format_table(
    title: str,
    columns: Iterable[str],
    rows: Mapping[str, Sequence[float | None]],
    *,
    first_width: int = 24,
) -> str:
    """Named rows of numbers under the names of their columns; whole numbers stand as they are.

    Args:
        title: over the names of the rows.
        columns: their names.
        rows: by name, the numbers; None is shown as a dash.
        first_width: of the column of the rows' names, in characters.
    """
    lines = [f"{title:<{first_width}}" + "".join(f"{name:>16}" for name in columns)]
    for name, numbers in rows.items():
        lines.append(f"{name:<{first_width}}" + "".join(map(_format_cell, numbers)))
    return "\n".join(lines)


def format_turn(image: str, facts: str, question: str | None, answer: str | None) -> str:
    """A turn in three lines: its image and facts about it, its question, its answer."""
    return (
        f"  {make_printable(image)} ({facts})\n"
        f"    Q {make_printable(question or '')}\n"
        f"    A {make_printable(answer or '')}"
    )


def make_printable(text: str) -> str:
    """A text on one line, cut where it is long, without what a terminal would obey."""
    on_one_line = "".join(character if character.isprintable() else " " for character in text)
    return textwrap.shorten(on_one_line, MAX_TEXT, placeholder=" ...")


def _format_cell(number: float | None) -> str:
    if number is None:
        return f"{'-':>16}"
    return f"{number:>16}" if isinstance(number, int) else f"{number:>16.3f}"
