"""Figures of a benchmark, each a ratio of sums over items, so that its difference can be resampled.

An item is a question, or the questions that count together: the two about an image of MME, the
turns of the options of MMBench. An answer that cannot be read is no right one; in precision it
counts nowhere, in recall as one that missed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from c3l_ray.benchmarks.answers import BenchmarkAnswer
from c3l_ray.benchmarks.verdicts import YES

Item = Sequence[BenchmarkAnswer]
"""The answers to the questions of an item."""

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure: the sum of what items add to its numerator, over that of its denominator.

    Attributes:
        name: of the figure.
        count: what an item adds to the numerator and to the denominator.
    """

    name: str
    count: Callable[[Item], tuple[int, int]]

    def measure(self, items: Sequence[Item]) -> float | None:
        """The figure of some items; None where the denominator is 0."""
        counts = [self.count(item) for item in items]
        denominator = sum(whole for _, whole in counts)
        return sum(part for part, _ in counts) / denominator if denominator else None


def group_items(answers: Sequence[BenchmarkAnswer]) -> dict[str, list[list[BenchmarkAnswer]]]:
    """The items of each group whose questions all tell something of the model, and those of all.

    Returns:
        By group, in the order of their first questions; "all" last, where there are several.
    """
    items: dict[tuple[str, str], list[BenchmarkAnswer]] = {}
    for answer in answers:
        question = answer.question
        items.setdefault((question.group, question.item), []).append(answer)
    groups: dict[str, list[list[BenchmarkAnswer]]] = {}
    for (group, _), item in items.items():
        measured = groups.setdefault(group, [])
        if all(answer.is_measured for answer in item):
            measured.append(item)
    if len(groups) > 1:
        groups[ALL] = [item for of_group in groups.values() for item in of_group]
    return groups


def measure_groups(
    groups: Mapping[str, Sequence[Item]], metrics: Sequence[Metric]
) -> dict[str, dict[str, float | int | None]]:
    """By group: how many questions, how many answers that cannot be read, and each metric."""
    table: dict[str, dict[str, float | int | None]] = {}
    for group, items in groups.items():
        answers = [answer for item in items for answer in item]
        table[group] = {
            "questions": len(answers),
            "unreadable": sum(answer.verdict is None for answer in answers),
            **{metric.name: metric.measure(items) for metric in metrics},
        }
    return table


def is_right(item: Item) -> bool:
    """Whether all answers of an item are right."""
    return all(answer.is_right for answer in item)


def _says_yes(answer: BenchmarkAnswer) -> bool:
    return answer.verdict == YES


def _is_yes(answer: BenchmarkAnswer) -> bool:
    return answer.question.label == YES


def _count_accuracy(item: Item) -> tuple[int, int]:
    return sum(answer.is_right for answer in item), len(item)


def _count_precision(item: Item) -> tuple[int, int]:
    return sum(_says_yes(a) and _is_yes(a) for a in item), sum(map(_says_yes, item))


def _count_recall(item: Item) -> tuple[int, int]:
    return sum(_says_yes(a) and _is_yes(a) for a in item), sum(map(_is_yes, item))


def _count_f1(item: Item) -> tuple[int, int]:
    """2 TP / (2 TP + FP + FN), which is the harmonic mean of precision and recall."""
    right_yes, said = _count_precision(item)
    return 2 * right_yes, said + sum(map(_is_yes, item))


ACCURACY = Metric(name="accuracy", count=_count_accuracy)
PRECISION = Metric(name="precision", count=_count_precision)
RECALL = Metric(name="recall", count=_count_recall)
F1 = Metric(name="f1", count=_count_f1)
YES_SHARE = Metric(name="yes_share", count=lambda item: (sum(map(_says_yes, item)), len(item)))
ITEM_ACCURACY = Metric(name="item_accuracy", count=lambda item: (int(is_right(item)), 1))
"""The share of items whose answers are all right."""

PRESENCE_METRICS = (ACCURACY, PRECISION, RECALL, F1, YES_SHARE)
"""POPE's five; yes_share is of what the model says, not of the labels."""
