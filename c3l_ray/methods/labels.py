"""Pseudo-labels (C3L, arXiv 2405.12752, stage 3): the turn of an image to raise, those to lower.

A function of the stored scores, applied when training reads them, and never stored itself. The
positive is the image's best turn by a score, the negatives are its other turns. What the paper does
not say is an option: i2c cannot tell an image that supports an answer from one that refutes it (the
guard), turns that score alike are no contrast (the margin), and scores of different kinds of turns
lie apart whatever the image says (standings).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from c3l_ray.methods.i2c import Floats
from c3l_ray.methods.ranking import LOWER_IS_BETTER, chance, standing_among

Turn = Mapping[str, Any]  # a turn of the schema, as a dict


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Places of an image's turns: one positive, and the negatives in their order."""

    positive: int
    negatives: tuple[int, ...]


def label(
    turns: Sequence[Turn],
    *,
    by: str = "i2c",
    guard: bool = True,
    margin: float = 0.0,
    same_kind: bool = False,
    standings: Mapping[str, Floats] | None = None,
    key: str = "",
) -> Labels | None:
    """The labels of one image's turns, or None where no turn can be the positive.

    Only turns that are ok and have the score take part. Ties fall to the earlier turn.

    Args:
        turns: with `kind`, `status` and `scores`.
        by: the score that ranks; "random" draws one for every turn that has an i2c.
        guard: a turn whose gain is below 0 is never the positive: the image speaks against it.
        margin: turns less than this below the positive are not its negatives either.
        same_kind: only turns of the positive's kind are its negatives.
        standings: the sorted values of the whole run by kind; a turn then ranks by its standing in
            its own kind, in [0, 1], in place of the value itself.
        key: of the image, from which random scores are drawn.
    """
    values = {}
    for place, turn in enumerate(turns):
        found = value(turn, by)
        if found is None:
            continue
        if by == "random":
            values[place] = chance(f"positive {key} {place}")
        elif standings is not None:
            values[place] = float(standing_among(found, standings[turn["kind"]]))
        else:
            values[place] = found
    candidates = [place for place in values if not (guard and _refuted(turns[place]))]
    if not candidates:
        return None
    positive = max(candidates, key=lambda place: (values[place], -place))
    negatives = (
        place
        for place, value in values.items()
        # What the image speaks against is a negative however high an unsigned score has put it.
        if place not in candidates or (place != positive and values[positive] - value >= margin)
        if not same_kind or turns[place]["kind"] == turns[positive]["kind"]
    )
    return Labels(positive=positive, negatives=tuple(negatives))


def value(turn: Turn, by: str) -> float | None:
    """What a turn ranks by, higher being better; None for one that takes no part."""
    score = (turn["scores"] or {}).get("i2c" if by == "random" else by)
    if turn["status"] != "ok" or score is None or not np.isfinite(score):
        return None
    return -score if by == LOWER_IS_BETTER else float(score)


def _refuted(turn: Turn) -> bool:
    gain = turn["scores"].get("gain")
    return gain is not None and gain < 0
