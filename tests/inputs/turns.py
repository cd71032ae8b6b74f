"""Turns of a row in short, and the two turns that tests of the formats write in many forms."""

from typing import Any

ShortTurn = tuple[str, str | None, str | None, str]
"""Kind, question, answer and status."""

TWO_FOLLOWING: list[ShortTurn] = [("given", "Q", "A", "ok"), ("follow_up", "R", "B", "ok")]
TWO_STANDING_ALONE: list[ShortTurn] = [("given", "Q", "A", "ok"), ("given", "R", "B", "ok")]


def list_turns(row: dict[str, Any]) -> list[ShortTurn]:
    names = ("kind", "question", "answer", "status")
    return [tuple(turn[name] for name in names) for turn in row["turns"]]
