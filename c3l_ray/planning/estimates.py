"""Figures that were measured on a sample, with their standard errors and intervals.

Sources: W. G. Cochran, Sampling Techniques, 3rd edition (1977), sections 2.6 (means of simple
random samples), 6.4 (ratios) and 9A (clusters of unequal size); for products the law of propagation
of uncertainty, JCGM 100:2008 (GUM), section 5.1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
"""Of every interval: of so many samples drawn in this way, this share has intervals that hold."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure, and between which values it lies; None where the sample cannot tell."""

    value: float
    low: float | None
    high: float | None

    def inverse(self) -> "Interval":
        """The figure one over this one, such as a speed for seconds.

        Raises:
            ZeroDivisionError: the figure is zero.
        """
        low = None if self.high is None else 1 / self.high
        return Interval(value=1 / self.value, low=low, high=1 / self.low if self.low else None)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure that was measured on a sample.

    Attributes:
        value: the figure.
        error: its standard error; 0 where it is known, None where a single case tells nothing.
        freedom: degrees of freedom of the standard error.
    """

    value: float
    error: float | None = 0.0
    freedom: float = math.inf

    def times(self, other: "Estimate | float") -> "Estimate":
        """The product of two independent figures, to first order in their errors.

        The degrees of freedom are the fewer of the two, so that the interval is rather too wide.
        """
        if not isinstance(other, Estimate):
            other = Estimate(value=other)
        value = self.value * other.value
        if self.error is None or other.error is None:
            return Estimate(value=value, error=None)
        error = math.hypot(self.error * other.value, other.error * self.value)
        freedoms = [one.freedom for one in (self, other) if one.error]
        return Estimate(value=value, error=error, freedom=min(freedoms, default=math.inf))

    def plus(self, known: float) -> "Estimate":
        """The sum with a figure that is known."""
        return Estimate(value=self.value + known, error=self.error, freedom=self.freedom)

    def interval(self, least: float = 0.0) -> Interval:
        """The figure with Student's interval, cut off below what it can be.

        Args:
            least: value that it can have.
        """
        from scipy import stats

        if self.error is None:
            return Interval(value=self.value, low=None, high=None)
        if self.error == 0:
            return Interval(value=self.value, low=self.value, high=self.value)
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom)) * self.error
        return Interval(value=self.value, low=max(least, self.value - half), high=self.value + half)


def estimate_mean(values: Sequence[float], clusters: Sequence[str] | None = None) -> Estimate:
    """The mean of a population, of which these values are a sample.

    Args:
        values: of the sampled cases, each as likely to be drawn.
        clusters: of each case, where clusters were drawn before the cases: then their totals vary
            as a whole. None where each case was drawn from all of them.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("a mean of no values")
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    residuals = array - mean
    if clusters is not None:
        names, places = np.unique(np.asarray(clusters), return_inverse=True)
        of_cases, residuals = residuals, np.zeros(len(names))
        np.add.at(residuals, places, of_cases)
    num_draws = len(residuals)
    if num_draws < 2:
        return Estimate(value=mean, error=None)
    variance = num_draws / (num_draws - 1) * float(np.sum(residuals**2)) / len(array) ** 2
    return Estimate(value=mean, error=math.sqrt(variance), freedom=num_draws - 1)


def estimate_total(
    counts: Sequence[float], sizes: Sequence[float], num_all: int, size_of_all: float
) -> Estimate:
    """The sum of counts over all cases, of which some were drawn: they go with the cases' sizes.

    The ratio of counts to sizes is that of the drawn ones (Cochran, equation 6.13). Where all were
    drawn the sum is known.

    Args:
        counts: of the drawn cases.
        sizes: of the drawn cases, known of all; where all are 0 each case counts as one.
        num_all: how many cases there are.
        size_of_all: sum of their sizes.

    Raises:
        ValueError: no case was drawn.
    """
    num_drawn = len(counts)
    if not num_drawn:
        raise ValueError("a total of no counts")
    if num_drawn == num_all:
        return Estimate(value=float(sum(counts)))
    drawn = np.asarray(sizes, dtype=np.float64)
    if not drawn.sum():
        drawn, size_of_all = np.ones(num_drawn), num_all
    array = np.asarray(counts, dtype=np.float64)
    ratio = float(array.sum() / drawn.sum())
    total = ratio * size_of_all
    if num_drawn < 2:
        return Estimate(value=total, error=None)
    mean_square = float(np.sum((array - ratio * drawn) ** 2)) / (num_drawn - 1)
    share_not_drawn = 1 - num_drawn / num_all
    error = num_all * math.sqrt(share_not_drawn * mean_square / num_drawn)
    return Estimate(value=total, error=error, freedom=num_drawn - 1)
