"""How much truer one run's turns are than another's about the same images, and how sure that is."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from c3l_ray.evaluation.judgement import JudgedTurn
from c3l_ray.scenes.truth import TRUE


@dataclass(frozen=True, kw_only=True)
class ShareDifference:
    """A difference of two shares.

    Attributes:
        difference: the second less the first.
        standard_error: of it; None where a single image tells nothing of the spread.
    """

    difference: float
    standard_error: float | None

    def __str__(self) -> str:
        """In points, that is hundredths."""
        points = f"{100 * self.difference:+.1f}"
        if self.standard_error is None:
            return points
        return f"{points} +-{100 * self.standard_error:.1f}"


def compare_true_shares(
    turns: Sequence[JudgedTurn], reference: Sequence[JudgedTurn]
) -> ShareDifference | None:
    """The true share of turns less that of a reference, paired by image.

    The turns about one image are no independent draws, and both runs are about the same images. So
    the standard error is that of a difference of two ratios whose clusters are images, linearised:
    Cochran, Sampling Techniques, 3rd edition, section 6.4 and chapter 9A.

    Args:
        turns: about scenes.
        reference: about the same scenes; images of one side only count too.

    Returns:
        The difference, or None where a side has no turn.
    """
    if not turns or not reference:
        return None
    images = sorted({turn.image for turn in (*turns, *reference)})
    influences = np.zeros(len(images))  # of each image on the difference
    shares = []
    for sign, side in ((1, turns), (-1, reference)):
        num_turns = Counter(turn.image for turn in side)
        num_true = Counter(turn.image for turn in side if turn.truth == TRUE)
        share = num_true.total() / num_turns.total()
        shares.append(share)
        residuals = np.array([num_true[image] - share * num_turns[image] for image in images])
        influences += sign * residuals / num_turns.total()
    standard_error = None
    if len(images) > 1:
        variance = len(images) / (len(images) - 1) * np.sum(influences**2)
        standard_error = math.sqrt(variance)
    return ShareDifference(difference=shares[0] - shares[1], standard_error=standard_error)
