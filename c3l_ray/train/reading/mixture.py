"""Sets of turns, mixed: which turns are drawn for which step (VIGC, arXiv 2308.12714).

A set is a kind of turn, or of turns made elsewhere a source. The authors' configs draw from their
data sets by ratios that are the square roots of the sets' sizes (our reading of the numbers). Here
the ratios are kept, not drawn: of the first t draws of a run a set has had its share, and takes its
turns in one permutation after the other. So a small set comes again in another order, a big one is
cut, and what a step learns is a function of the seed and the step's number alone.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np

from c3l_ray.errors import PreflightError
from c3l_ray.methods import vigc
from c3l_ray.schema import GIVEN
from c3l_ray.train.reading.order import Places, Window

MAX_SETS = 64  # every window reads of every set
ELSEWHERE = "dialogue"  # the kind of turns made elsewhere, where nothing else is said
NUM_LOTS = 2**31
_ONE = 2**60  # a share of all, as a whole number: sums of shares are exact


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """The objective vigc: which turns are drawn, and what is learnt of each.

    A set is a kind of turn; of turns made elsewhere it is their source file.
    """

    by: Literal["sqrt", "size", "even"] = "sqrt"
    """How often a set's turns are drawn: by the square root of its size [V-cfg], by its size, or
    as often as any other set's."""
    correction_share: float = 0.5
    """Share of the draws that learn the answer to a question (VIC); the others learn to write the
    question with its answer (VIG). Even is our reading: the paper names no weight."""
    kinds: tuple[str, ...] = ()
    """SOURCE=KIND for turns made elsewhere: it says under which instructions they are learnt, such
    as detail_23k.json=detail; else they are dialogue. A pattern (part-*=short) makes one set of all
    sources that it fits. Kinds: dialogue, detail, reasoning, short, yes_no."""

    def __post_init__(self) -> None:
        if not 0 <= self.correction_share <= 1:
            raise PreflightError(f"--mixture.correction-share {self.correction_share}: must be in [0, 1]")
        for each in self.kinds:
            source, _, kind = each.rpartition("=")
            if not source or kind not in vigc.TAUGHT_INSTRUCTIONS:
                raise PreflightError(
                    f"--mixture.kinds {each}: must be SOURCE=KIND, the kind one of "
                    + ", ".join(vigc.TAUGHT_INSTRUCTIONS)
                )

    def set_of(self, kind: str, source: str) -> str | None:
        """The set of a turn, or None for one that is not learnt.

        Not learnt is a follow-up: without the turns before it, it is no question on an image.

        Args:
            kind: of the turn.
            source: of its record.
        """
        if kind in vigc.TAUGHT_INSTRUCTIONS:
            return kind
        return self._named(source)[0] if kind == GIVEN else None

    def kind_of(self, kind: str, source: str) -> str:
        """The kind whose instructions ask for a turn of this kind and source."""
        return kind if kind in vigc.TAUGHT_INSTRUCTIONS else self._named(source)[1]

    def check(self, names: Iterable[str], sources: Collection[str]) -> None:
        """Refuses sets that cannot be mixed.

        Args:
            names: of the sets.
            sources: of the turns made elsewhere.

        Raises:
            PreflightError: a source of --mixture.kinds that is not there, or too many sets.
        """
        used = {self._named(source)[0] for source in sources}
        for each in self.kinds:
            if each.rpartition("=")[0] not in used:
                there = ", ".join(sorted(sources)[:5]) or "none"
                raise PreflightError(
                    f"--mixture.kinds {each}: no turns made elsewhere come from there; "
                    f"their sources are {there}{' and so on' if len(sources) > 5 else ''}"
                )
        if (number := len(list(names))) > MAX_SETS:
            raise PreflightError(
                f"{number} sets to draw turns from, and at most {MAX_SETS} can be mixed: join "
                "sources by a pattern, such as --mixture.kinds '*=dialogue'"
            )

    def _named(self, source: str) -> tuple[str, str]:
        """The set of turns from a source and their kind: the first of the flag's that fits it.

        A source is known by its whole name and by the last of its parts.
        """
        for each in self.kinds:
            pattern, _, kind = each.rpartition("=")
            if any(fnmatchcase(name, pattern) for name in (source, source.rpartition("/")[2])):
                return pattern, kind
        return source, ELSEWHERE


@dataclass(frozen=True, kw_only=True)
class Set:
    """Turns that are drawn alike.

    Attributes:
        name: the kind of its turns, or their source.
        turns: [N, 3]: the number of a part, a row in it, a turn of the row.
    """

    name: str
    turns: Places

    @classmethod
    def of(cls, name: str, turns: Sequence[tuple[int, int, int]]) -> "Set":
        """A set of turns as they are listed."""
        return cls(name=name, turns=np.asarray(turns, dtype=np.int64))


def shares(sizes: Sequence[int], by: str) -> list[float]:
    """The share of the draws that each set has, by the numbers of their turns."""
    powers = {"sqrt": 0.5, "size": 1.0, "even": 0.0}
    weights = [size ** powers[by] for size in sizes]
    return [weight / sum(weights) for weight in weights]


def drawn(num_draws: int, of_sets: Sequence[float]) -> list[int]:
    """How many of the first draws are of each set.

    Each set takes its share of what those before it leave. So none ever has fewer after more draws,
    and the numbers add up, however many draws there are.
    """
    counts, left, rest = [], num_draws, 1.0
    for share in of_sets[:-1]:
        counts.append(left * min(_ONE, round(share / rest * _ONE)) // _ONE)
        left -= counts[-1]
        rest -= share
    return [*counts, left]


def windows(
    sets: Sequence[Set],
    of_sets: Sequence[float],
    *,
    batch_size: int,
    seed: int,
    window_images: int,
    first_step: int,
    num_steps: int,
) -> Iterator[Window]:
    """The windows of the steps [first_step, num_steps) of a run, in order.

    Their places are [steps, batch_size, 4]: the number of a part, a row in it, a turn of the row,
    and a lot, a number below NUM_LOTS that says what is learnt of the turn.

    Args:
        sets: to draw from, none empty.
        of_sets: the share of the draws that each has.
        batch_size: turns in a step.
        seed: of the order and the lots.
        window_images: turns that are shuffled among each other after their files were.
        first_step: where to begin.
        num_steps: of the whole run.
    """
    a_window = max(1, window_images // batch_size)
    walks = [_Walk(each, seed=seed, number=number) for number, each in enumerate(sets)]
    step = first_step
    while step < num_steps:
        number, at = divmod(step, a_window)
        ends = [number * a_window * batch_size, (number + 1) * a_window * batch_size]
        before, after = (drawn(end, of_sets) for end in ends)
        turns = np.concatenate(
            [walk.turns(*span) for walk, *span in zip(walks, before, after, strict=True)]
        )
        rng = np.random.default_rng([seed, number])
        lots = rng.integers(NUM_LOTS, size=(len(turns), 1))
        places = rng.permutation(np.concatenate([turns, lots], axis=1))
        steps = places.reshape(a_window, batch_size, 4)[at:][: num_steps - step]
        yield Window(first_step=step, places=steps)
        step += len(steps)


class _Walk:
    """A set's turns without an end: one permutation after the other, file by file in each."""

    def __init__(self, of: Set, *, seed: int, number: int) -> None:
        self._turns = of.turns
        self._seed = (seed, number)
        self._last: tuple[int, Places] | None = None  # a long one is walked by many windows

    def turns(self, start: int, end: int) -> Places:
        """Those at the positions [start, end) of the walk, [end - start, 3]."""
        size, found = len(self._turns), [self._turns[:0]]
        for number in range(start // size, -(-end // size)):
            first = number * size
            found.append(self._pass(number)[max(0, start - first) : end - first])
        return np.concatenate(found)

    def _pass(self, number: int) -> Places:
        if self._last is None or self._last[0] != number:
            rng = np.random.default_rng([*self._seed, number])
            parts, part = np.unique(self._turns[:, 0], return_inverse=True)
            by_file = rng.permutation(len(parts))[part]
            order = np.lexsort((rng.random(len(part)), by_file))
            self._last = (number, self._turns[order])
        return self._last[1]
