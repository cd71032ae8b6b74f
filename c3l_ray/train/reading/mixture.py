"""Sets of turns, mixed: which turns are drawn for which step (VIGC, arXiv 2308.12714).

A set is a kind of turn, or of turns made elsewhere a source. The authors' configs draw from their
data sets by ratios that are the square roots of the sets' sizes (our reading of the numbers). Here
the ratios are kept, not drawn: of the first t draws of a run a set has had its share, and takes its
turns in one permutation after the other. So a small set comes again in another order, a big one is
cut, and what a step learns is a function of the seed and the step's number alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from c3l_ray.train.mixture_config import Weighting
from c3l_ray.train.reading.order import Schedule, Window

TurnIndices = NDArray[np.int64]
"""[..., 3]: the number of a file, of a row in it, and of a turn of the row."""

DRAW_RANGE = 2**31
_FIXED_POINT = 2**60  # a share of all, as a whole number: sums of shares are exact
_POWERS: dict[Weighting, float] = {"sqrt": 0.5, "size": 1.0, "even": 0.0}


class TurnDraw(NamedTuple):
    """What a mixture draws of a record.

    Attributes:
        place: of a turn in the record.
        number: below DRAW_RANGE; it says what is learnt of the turn.
    """

    place: int
    number: int


@dataclass(frozen=True, kw_only=True)
class TurnSet:
    """Turns that are drawn alike.

    Attributes:
        name: the kind of its turns, or their source.
        turns: [N, 3].
    """

    name: str
    turns: TurnIndices

    @classmethod
    def from_list(cls, name: str, turns: Sequence[tuple[int, int, int]]) -> "TurnSet":
        """A set of turns as they are listed."""
        return cls(name=name, turns=np.asarray(turns, dtype=np.int64))


def compute_set_shares(sizes: Sequence[int], weighting: Weighting) -> list[float]:
    """The share of the draws that each set has, by the numbers of their turns."""
    weights = [size ** _POWERS[weighting] for size in sizes]
    return [weight / sum(weights) for weight in weights]


def count_draws(num_draws: int, set_shares: Sequence[float]) -> list[int]:
    """How many of the first draws are of each set.

    Each set takes its share of what those before it leave. So none ever has fewer after more draws,
    and the numbers add up, however many draws there are.
    """
    counts, draws_left, share_left = [], num_draws, 1.0
    for share in set_shares[:-1]:
        fixed_point = min(_FIXED_POINT, round(share / share_left * _FIXED_POINT))
        counts.append(draws_left * fixed_point // _FIXED_POINT)
        draws_left -= counts[-1]
        share_left -= share
    return [*counts, draws_left]


def plan_draws(
    sets: Sequence[TurnSet], set_shares: Sequence[float], schedule: Schedule
) -> Iterator[Window]:
    """The windows of a schedule's steps, in order.

    Their rows are [steps, batch_size, 4]: as TurnIndices, and the number of a TurnDraw.

    Args:
        sets: to draw from, none empty.
        set_shares: the share of the draws that each has.
        schedule: which steps; its seed is also that of the draws' numbers.
    """
    batch_size, steps_per_window = schedule.batch_size, schedule.steps_per_window
    walks = [
        _SetWalk(turn_set, seed=schedule.seed, number=number)
        for number, turn_set in enumerate(sets)
    ]
    step = schedule.first_step
    while step < schedule.num_steps:
        number, step_in_window = divmod(step, steps_per_window)
        first_draw = number * steps_per_window * batch_size
        starts = count_draws(first_draw, set_shares)
        ends = count_draws(first_draw + steps_per_window * batch_size, set_shares)
        rng = np.random.default_rng([schedule.seed, number])
        set_of_draw = rng.permutation(np.repeat(np.arange(len(walks)), np.subtract(ends, starts)))
        draws = np.empty((steps_per_window * batch_size, 4), dtype=np.int64)
        for set_number, walk in enumerate(walks):
            turns = walk.take_turns(starts[set_number], ends[set_number], rng)
            draws[set_of_draw == set_number, :3] = turns
        draws[:, 3] = rng.integers(DRAW_RANGE, size=len(draws))
        steps = draws.reshape(steps_per_window, batch_size, 4)[step_in_window:]
        steps = steps[: schedule.num_steps - step]
        yield Window(first_step=step, rows=steps)
        step += len(steps)


class _SetWalk:
    """A set's turns without an end: one permutation after the other, file by file in each."""

    def __init__(self, turn_set: TurnSet, *, seed: int, number: int) -> None:
        self._turns = turn_set.turns
        self._seed = (seed, number)
        # A long pass is walked by many windows.
        self._last_pass: tuple[int, TurnIndices] | None = None

    def take_turns(self, start: int, end: int, rng: np.random.Generator) -> TurnIndices:
        """Those at the positions [start, end) of the walk, [end - start, 3], files mixed.

        Passes stay one after the other, so that no turn comes again before all others have come.
        """
        size, pieces = len(self._turns), [self._turns[:0]]
        for number in range(start // size, -(-end // size)):
            first = number * size
            piece = self._shuffle_pass(number)[max(0, start - first) : end - first]
            pieces.append(rng.permutation(piece))
        return np.concatenate(pieces)

    def _shuffle_pass(self, number: int) -> TurnIndices:
        if self._last_pass is None or self._last_pass[0] != number:
            rng = np.random.default_rng([*self._seed, number])
            files, file = np.unique(self._turns[:, 0], return_inverse=True)
            file_rank = rng.permutation(len(files))[file]
            order = np.lexsort((rng.random(len(file)), file_rank))
            self._last_pass = (number, self._turns[order])
        return self._last_pass[1]
