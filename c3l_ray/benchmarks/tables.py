"""The result of a benchmark as text for a terminal."""

from collections.abc import Mapping
from typing import Any

from c3l_ray.benchmarks.answers import ANSWERS
from c3l_ray.benchmarks.result import RESULT, BenchmarkResult
from c3l_ray.benchmarks.scores import SCORE, Figures
from c3l_ray.runs.counts import list_counts
from c3l_ray.runs.turn_tables import format_table, make_printable

COUNTS = ("questions", "unreadable")
ITEM_LABELS = {"mme": "acc+", "mmbench": "circular"}
"""What the accuracy of items is called in a table."""


def format_result(result: BenchmarkResult, output: str) -> str:
    """The figures, what could not be read or asked, and where the answers lie.

    Args:
        result: of a run.
        output: its folder.
    """
    asked = result.questions - result.not_asked
    lines = [
        _format_figures(result.figures, result.benchmark, result.benchmark),
        "",
        *_describe_official(result),
        f"  model     {result.model}",
        f"  asked     {asked} of {result.questions} questions, {_describe_suffix(result)}",
        *_list_examples("failed", result.failed, result.failure_examples.values()),
        f"  answers   {list_counts(result.answer_status)}",
        *_describe_unreadable(result),
        *(_describe_comparison(result) if result.against else []),
        f"  written   {output.rstrip('/')}/{ANSWERS}",
        f"            {output.rstrip('/')}/{RESULT}",
    ]
    if result.not_asked:
        lines.append("  go on     by the same command without --limit")
    return "\n".join(lines)


def _format_figures(figures: Figures, title: str, benchmark: str) -> str:
    names = list(dict.fromkeys(name for row in figures.values() for name in row))
    rows = {group: [row.get(name) for name in names] for group, row in figures.items()}
    width = max(24, *(len(group) + 2 for group in figures))
    columns = [label_figure(name, benchmark) for name in names]
    return format_table(title, columns, rows, first_width=width)


def label_figure(name: str, benchmark: str) -> str:
    """What a figure of a benchmark is called in a table."""
    return ITEM_LABELS.get(benchmark, name) if name == "item_accuracy" else name


def _describe_official(result: BenchmarkResult) -> list[str]:
    """The figures as the official script reads the answers, where they differ."""
    if result.official is None:
        return []
    if drop_counts(result.figures) == drop_counts(result.official):
        return ["  official  the benchmark's own script reads the same figures"]
    title = "as its own script reads"
    return [_format_figures(result.official, title, result.benchmark), ""]


def drop_counts(figures: Figures) -> Figures:
    """The figures without the numbers of what they are of."""
    return {
        group: {name: value for name, value in row.items() if name not in COUNTS}
        for group, row in figures.items()
    }


def _describe_suffix(result: BenchmarkResult) -> str:
    if not result.suffix:
        return f"without a suffix ({result.suffix_source})"
    return f"each with {make_printable(result.suffix)!r} ({result.suffix_source})"


def _describe_unreadable(result: BenchmarkResult) -> list[str]:
    if not result.unreadable:
        return []
    counts = {"answers say none of what the labels say": result.unreadable}
    return _list_examples("unreadable", counts, result.unreadable_examples)


def _list_examples(label: str, counts: Mapping[str, int], examples: Any) -> list[str]:
    if not counts:
        return []
    lines = [f"  {label:<10}{list_counts(counts)}"]
    return lines + [f"            for example {make_printable(example)}" for example in examples]


def _describe_comparison(result: BenchmarkResult) -> list[str]:
    """A row of each group: differences with their intervals, and McNemar's counts."""
    against, benchmark = result.against or {}, result.benchmark
    groups = against["groups"]
    names = list(next(iter(groups.values()))["differences"])
    width = max(24, *(len(group) + 2 for group in groups))
    columns = [label_figure(name, benchmark) for name in names]
    head = f"{'less ' + make_printable(against['model'])[-width + 7 :]:<{width}}"
    lines = [head + "".join(f"{name:>26}" for name in columns) + f"{'McNemar':>26}"]
    for group, row in groups.items():
        cells = [format_difference(name, row["differences"][name]) for name in names]
        test = f"+{row['only_this']} -{row['only_other']} p={row['p_value']:.3g}"
        lines.append(f"{group:<{width}}" + "".join(f"{cell:>26}" for cell in [*cells, test]))
    if against["suffix"] != result.suffix:
        lines.append(f"note: the other was asked with the suffix {against['suffix']!r}")
    return ["", *lines, ""]


def format_difference(name: str, difference: Mapping[str, float | None]) -> str:
    """A difference of a figure and its interval, as far as there is one."""
    value, low, high = (difference[bound] for bound in ("value", "low", "high"))
    decimals = 1 if name == SCORE else 3  # a score is of hundreds
    if value is None:
        return "-"
    if low is None or high is None:
        return f"{value:+.{decimals}f}"
    return f"{value:+.{decimals}f} [{low:+.{decimals}f}, {high:+.{decimals}f}]"
