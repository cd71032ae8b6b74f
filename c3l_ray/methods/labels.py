"""Pseudo-labels (C3L, arXiv 2405.12752, stage 3): an image's positive turn, and its negatives.

A function of the stored scores, applied when training reads them, and never stored itself. The
positive is the image's best turn by a score, the negatives are its other turns. What the paper does
not say is an option: i2c cannot tell an image that supports an answer from one that refutes it
(`require_gain`), turns that score alike are no contrast (`margin`), and scores of different kinds
of turns differ whatever the image says (`within`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from c3l_ray.methods.i2c import Floats
from c3l_ray.methods.ranking import percentile_among, uniform_from
from c3l_ray.methods.scores import RankedBy, value_of
from c3l_ray.ranges import Range
from c3l_ray.schema import FOLLOW_UP, Turn

ScoreQuantiles = Mapping[str, Floats]
"""By kind of turn, sorted values of a score over a whole run, thinned where there are many."""


@dataclass(frozen=True, kw_only=True)
class LabelRules:
    """The objective c3l: which turn of an image is its positive, and which are its negatives."""

    by: RankedBy = "i2c"
    """Score whose best turn is the positive; random is the control."""
    within: Literal["dataset", "kind"] = "dataset"
    """Compare turns by the score itself, or by its percentile rank among turns of their kind."""
    require_gain: bool = True
    """Never take a positive whose gain is below 0, which the image refutes; random may take it."""
    margin: Annotated[float, Range(min=0)] = 0.0
    """Least distance of a negative below the positive; turns closer than this are left out."""
    negatives: Literal["image", "kind"] = "image"
    """Negatives are the image's other turns, or those of the positive's kind (as of 10 turns)."""


@dataclass(frozen=True, kw_only=True)
class PseudoLabels:
    """Places of an image's turns: one positive, and the negatives in their order."""

    positive: int
    negatives: tuple[int, ...]


def choose_labels(
    turns: Sequence[Turn],
    rules: LabelRules,
    *,
    quantiles: ScoreQuantiles | None = None,
    image_id: str = "",
) -> PseudoLabels | None:
    """The labels of one image's turns, or None where no turn can be the positive.

    Only turns that are ok and have the score take part. A follow-up takes none: it asks after the
    turns before it, and is no turn on an image by itself. Ties fall to the earlier turn.

    Args:
        turns: with `kind`, `status` and `scores`.
        rules: of the choice.
        quantiles: of the run, where turns are compared within their kind.
        image_id: from which random scores are drawn.
    """
    values = {}
    for place, turn in enumerate(turns):
        value = ranking_value(turn, rules.by)
        if value is None or turn["kind"] == FOLLOW_UP:
            continue
        if rules.by == "random":
            values[place] = uniform_from(f"positive {image_id} {place}")
        elif rules.within == "kind":
            assert quantiles is not None
            values[place] = float(percentile_among(value, quantiles[turn["kind"]]))
        else:
            values[place] = value
    # The control must not know what the image says of a turn.
    needs_gain = rules.require_gain and rules.by != "random"
    candidates = [place for place in values if not (needs_gain and _is_refuted(turns[place]))]
    if not candidates:
        return None
    positive = max(candidates, key=lambda place: (values[place], -place))
    same_kind = rules.negatives == "kind"
    negatives = (
        place
        for place, value in values.items()
        # What the image speaks against is a negative however high an unsigned score has put it.
        if place not in candidates
        or (place != positive and values[positive] - value >= rules.margin)
        if not same_kind or turns[place]["kind"] == turns[positive]["kind"]
    )
    return PseudoLabels(positive=positive, negatives=tuple(negatives))


def ranking_value(turn: Turn, by: RankedBy) -> float | None:
    """What a turn ranks by, higher being better; None for one that takes no part.

    Random ranks the turns that have an i2c, so that it competes with the others on equal terms.
    """
    if turn["status"] != "ok":
        return None
    return value_of(turn["scores"], "i2c" if by == "random" else by)


def _is_refuted(turn: Turn) -> bool:
    gain = value_of(turn["scores"], "gain")
    return gain is not None and gain < 0
