"""Shares of kinds, as --mix gives them: how many turns each kind has of so many."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

SUM_TOLERANCE = 1e-6


def parse_shares(entries: Sequence[str]) -> dict[str, float]:
    """The share of each kind, given as KIND=SHARE.

    Raises:
        ValueError: an entry is no KIND=SHARE with a share above 0, a kind comes twice, or the
            shares do not add up to 1; the message says which.
    """
    shares: dict[str, float] = {}
    for entry in entries:
        kind, _, number = entry.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = math.nan
        if not kind or not 0 < share <= 1:
            raise ValueError(f"must be KIND=SHARE with a share in (0, 1]; {entry} is not")
        if kind in shares:
            raise ValueError(f"names {kind} twice")
        shares[kind] = share
    total = math.fsum(shares.values())
    if shares and abs(total - 1) > SUM_TOLERANCE:
        raise ValueError(f"the shares must add up to 1, and they add up to {total:.6g}")
    return shares


def apportion(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers in the proportion of shares that add up to the total.

    By largest remainders (Hamilton's method): each kind has its quota rounded down, and what is
    left goes to the largest fractions, among equals to the kind that was named first.

    Args:
        total: to divide.
        shares: of each kind; they need not add up to exactly 1.
    """
    # A share is the decimal that was written: 0.3 of 10 is 3, and not a little less.
    exact = {kind: Fraction(str(share)) for kind, share in shares.items()}
    whole = sum(exact.values())
    quotas = {kind: total * share / whole for kind, share in exact.items()}
    counts = {kind: math.floor(quota) for kind, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda kind: counts[kind] - quotas[kind])
    for kind in by_remainder[: total - sum(counts.values())]:
        counts[kind] += 1
    return counts


def find_largest_total(available: Mapping[str, int], shares: Mapping[str, float]) -> int:
    """The largest total of which every kind has its whole share, given how many each kind has."""
    bounds = ((available.get(kind, 0) + 1) / share for kind, share in shares.items())
    total = math.ceil(min(bounds))
    while any(count > available.get(kind, 0) for kind, count in apportion(total, shares).items()):
        total -= 1
    return total
