"""A measure: a number of one group of turns, with its interval, over the repetitions."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.evidence.bootstrap import Clusters, Floats, Interval, draw_clusters, find_interval, share
from tests.evidence.stages import StageResult

Row = dict[str, Any]
Statistic = Callable[[Floats, Sequence[Row]], Floats]
"""A number of rows by their weights [1 + draws, rows], by draw [1 + draws]."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What `results.json` says in one line.

    Attributes:
        question: that it helps to answer.
        measure: what is measured.
        group: of what.
        interval: the estimate and its bounds; the bounds are NaN where there are none.
        seeds: the repetitions that it pools.
        by_seed: the estimate of each.
        num_items: turns, answers, sentences or pairs.
    """

    question: str
    measure: str
    group: str
    interval: Interval
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...] = ()
    num_items: int = 0

    @property
    def is_defined(self) -> bool:
        """Whether there is a number; an area is none where no turn is false."""
        return not math.isnan(self.interval.estimate)

    def to_json(self) -> dict[str, Any]:
        """The measure with the keys of `results.json`; null where there is no number."""
        bounds = {
            name: None if math.isnan(value) else round(value, 4)
            for name, value in vars(self.interval).items()
        }
        return {
            "measure": self.measure,
            "group": self.group,
            **bounds,
            "seeds": list(self.seeds),
        }


def pool_rows(results: Iterable[StageResult], part: str) -> list[Row]:
    """The rows of several repetitions, each with its `seed` beside it."""
    return [
        {**row, "seed": result.stage.seed} for result in results for row in result.content[part]
    ]


def scene_of(row: Row) -> Hashable:
    """The cluster of a row."""
    return row["scene"]


def list_seeds(rows: Iterable[Row]) -> tuple[int, ...]:
    return tuple(sorted({row["seed"] for row in rows}))


def draw_scenes(rows: Iterable[Row]) -> Clusters:
    """The draws of the scenes of these rows."""
    return draw_clusters(sorted({scene_of(row) for row in rows}, key=str))


def measure_rows(
    question: str,
    measure: str,
    group: str,
    rows: Sequence[Row],
    statistic: Statistic,
    clusters: Clusters,
) -> Measure:
    """A measure of rows, by a statistic of their weights [1 + draws, rows]."""
    weights = clusters.weights_of([scene_of(row) for row in rows])
    by_seed = []
    for seed in list_seeds(rows):
        places = [place for place, row in enumerate(rows) if row["seed"] == seed]
        (value,) = statistic(weights[:1, places], [rows[place] for place in places])
        by_seed.append(float(value))
    return Measure(
        question=question,
        measure=measure,
        group=group,
        interval=find_interval(statistic(weights, rows)),
        seeds=list_seeds(rows),
        by_seed=tuple(by_seed),
        num_items=len(rows),
    )


def share_of(value: Callable[[Row], float]) -> Statistic:
    """The statistic that is the mean of a value of the rows; of truths, their share."""
    return lambda weights, rows: share(weights, [value(row) for row in rows])


def difference_of(statistic: Statistic) -> Statistic:
    """The statistic of the rows marked `after` less that of the others, in the same draws."""

    def difference(weights: Floats, rows: Sequence[Row]) -> Floats:
        sides = []
        for after in (True, False):
            places = [place for place, row in enumerate(rows) if row["after"] == after]
            sides.append(statistic(weights[:, places], [rows[place] for place in places]))
        return sides[0] - sides[1]

    return difference


def mark_sides(before: Iterable[Row], after: Iterable[Row]) -> list[Row]:
    """The rows of both sides, as `difference_of` takes them."""
    return [
        *({**row, "after": False} for row in before),
        *({**row, "after": True} for row in after),
    ]
