"""Percentiles of the scores of many turns, seen one after the other."""

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from c3l_ray.methods.scores import SCORE_NAMES

PERCENTILES = (5, 25, 50, 75, 95)


class ScoreSummary:
    """Gathers the scores of turns: four bytes for each score of each turn."""

    def __init__(self) -> None:
        self._values = {name: array("f") for name in SCORE_NAMES}

    def add(self, scores: Mapping[str, Any] | None) -> None:
        """Adds the scores of a turn; those that it lacks, or that are not finite, are left out."""
        for name, value in (scores or {}).items():
            if value is not None and np.isfinite(value):
                self._values[name].append(value)

    def percentiles(self) -> dict[str, dict[str, float]]:
        """By score, of those that some turn has, the value at each percentile, as "p5"."""
        return {
            name: {
                f"p{percent}": float(value)
                for percent, value in zip(
                    PERCENTILES, np.percentile(np.asarray(values), PERCENTILES), strict=True
                )
            }
            for name, values in self._values.items()
            if values
        }
