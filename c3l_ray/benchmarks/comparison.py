"""How much better one model's answers are than another's to the same questions, and how sure.

Intervals are of the bootstrap, paired and clustered: questions about one image are no independent
draws, and both models answered about the same images. McNemar's test counts the items that only
one of them has right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from c3l_ray.benchmarks.answers import BenchmarkAnswer
from c3l_ray.benchmarks.bootstrap import Difference, find_difference
from c3l_ray.benchmarks.metrics import Item, Metric, group_items, is_right
from c3l_ray.benchmarks.scores import SCORE, Halves, compare_scores


@dataclass(frozen=True, kw_only=True)
class GroupComparison:
    """What a comparison says of a group.

    Attributes:
        items: that both models answered.
        differences: by metric.
        only_this, only_other: items that only this model, and only the other, has right.
        p_value: McNemar's exact, two-sided; of items as if they were independent.
    """

    items: int
    differences: dict[str, Difference]
    only_this: int
    only_other: int
    p_value: float


def compare_answers(
    answers: Sequence[BenchmarkAnswer],
    others: Sequence[BenchmarkAnswer],
    metrics: Sequence[Metric],
    halves: Halves | None = None,
) -> dict[str, GroupComparison]:
    """Compares the answers of two models by group.

    Args:
        answers: of this model.
        others: of the other one, to the same questions.
        metrics: figures to compare.
        halves: by name, the groups whose scores are added up; None where there are no scores. Each
            half whose groups all have a score is compared too, by its score only.
    """
    mine, theirs = _index_items(answers), _index_items(others)
    paired = {}
    for group in mine:
        names = [name for name in mine[group] if name in theirs.get(group, {})]
        paired[group] = (
            [mine[group][name] for name in names],
            [theirs[group][name] for name in names],
        )
    comparisons = {
        group: _compare_items(items, other_items, metrics)
        for group, (items, other_items) in paired.items()
    }
    if halves is None:
        return comparisons
    scores = compare_scores(paired, halves)
    for half in (half for half in halves if half in scores):
        items, other_items = (
            [item for group in halves[half] for item in paired[group][side]] for side in (0, 1)
        )
        nothing = {metric.name: Difference(value=None) for metric in metrics}
        comparisons[half] = replace(_compare_items(items, other_items, ()), differences=nothing)
    return {
        group: replace(
            comparison,
            differences={
                **comparison.differences,
                SCORE: scores.get(group, Difference(value=None)),
            },
        )
        for group, comparison in comparisons.items()
    }


def _index_items(answers: Sequence[BenchmarkAnswer]) -> dict[str, Mapping[tuple[str, str], Item]]:
    """By group, the measured items by their names."""
    return {
        group: {(item[0].question.group, item[0].question.item): item for item in items}
        for group, items in group_items(answers).items()
    }


def _compare_items(
    items: Sequence[Item], others: Sequence[Item], metrics: Sequence[Metric]
) -> GroupComparison:
    """Compares two models' answers to the items, which come in the same order."""
    from scipy import stats

    rights = [(is_right(item), is_right(other)) for item, other in zip(items, others, strict=True)]
    only_this = sum(mine and not theirs for mine, theirs in rights)
    only_other = sum(theirs and not mine for mine, theirs in rights)
    differing = only_this + only_other
    p_value = stats.binomtest(only_this, differing, 0.5).pvalue if differing else 1.0
    return GroupComparison(
        items=len(items),
        differences={metric.name: find_difference(items, others, metric) for metric in metrics},
        only_this=only_this,
        only_other=only_other,
        p_value=float(p_value),
    )
