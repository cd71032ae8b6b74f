"""What a report says of a benchmark: its figures, what could not be read or asked, mistakes."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from c3l_ray import storage
from c3l_ray.benchmarks.answers import BenchmarkAnswer, read_answers
from c3l_ray.benchmarks.catalogue import CATALOGUE
from c3l_ray.benchmarks.intervals import find_interval
from c3l_ray.benchmarks.metrics import Item, group_items
from c3l_ray.benchmarks.samples import IMAGES
from c3l_ray.benchmarks.scores import Figures
from c3l_ray.benchmarks.tables import COUNTS, drop_counts, format_difference, label_figure
from c3l_ray.errors import PreflightError
from c3l_ray.report.cards import cut_text
from c3l_ray.report.gather import Benchmark
from c3l_ray.report.tables import Table, count_up
from c3l_ray.report.thumbnails import Thumbnail, make_thumbnail
from c3l_ray.runs.commit import read_records
from c3l_ray.storage import Location

MAX_MISTAKES = 24


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A wrong answer, or one that cannot be read; every text is as it was written."""

    group: str
    place: str
    prompt: str
    options: list[tuple[str, str]]
    answer: str | None
    said: str
    label: str
    image: Thumbnail


@dataclass(frozen=True, kw_only=True)
class BenchmarkSection:
    """What the page shows of a benchmark.

    Attributes:
        official: figures as its own script reads the answers, where these differ.
        against: differences from another model's figures, and which model that is, where asked for.
        mistakes: some of them.
        num_mistakes: that there are.
    """

    name: str
    figures: Table
    counts: Table
    official: Table | None
    against: tuple[str, Table] | None
    mistakes: list[Mistake]
    num_mistakes: int


def describe_benchmark(benchmark: Benchmark) -> BenchmarkSection | None:
    """What a benchmark came to; None where it has no result yet.

    Raises:
        PreflightError: its answers cannot be read.
        C3LError: a file of records cannot be read.
    """
    result = benchmark.result
    if result is None:
        return None
    answers = read_answers(benchmark.folder)
    name, figures, official = result["benchmark"], result["figures"], result["official"]
    is_same = official is None or drop_counts(official) == drop_counts(figures)
    mistakes = _rank_mistakes(answers)
    shown = _choose_mistakes(mistakes)
    images = _find_images(benchmark, {answer.question.image for answer in shown})
    return BenchmarkSection(
        name=benchmark.name,
        figures=_tabulate_figures(figures, name, group_items(answers)),
        counts=_tabulate_counts(result),
        official=None if is_same else _tabulate_figures(official, name, {}),
        against=_describe_comparison(result),
        mistakes=[_describe_mistake(answer, images) for answer in shown],
        num_mistakes=len(mistakes),
    )


def _tabulate_figures(figures: Figures, name: str, items: Mapping[str, Sequence[Item]]) -> Table:
    """Figures by group, with the intervals of those that these items give."""
    columns = list(dict.fromkeys(column for row in figures.values() for column in row))
    known = CATALOGUE.get(name)  # type: ignore[call-overload]
    metrics = {metric.name: metric for metric in known.metrics} if known else {}

    def format_cell(group: str, column: str, value: float | None) -> str:
        if value is None:
            return "-"
        if column in COUNTS:
            return count_up(int(value))
        text = f"{value:,.1f}" if column == "score" else f"{value:.3f}"
        metric, of_group = metrics.get(column), items.get(group)
        if metric is None or not of_group:
            return text
        measured = metric.measure(of_group)
        if measured is None or not math.isclose(measured, value):
            return text  # another version counted otherwise
        interval = find_interval(of_group, metric)
        return text if interval is None else f"{text} [{interval[0]:.3f}, {interval[1]:.3f}]"

    return Table(
        ["", *(label_figure(column, name) for column in columns)],
        [
            [group, *(format_cell(group, column, row.get(column)) for column in columns)]
            for group, row in figures.items()
        ],
    )


def _tabulate_counts(result: Mapping[str, Any]) -> Table:
    """Questions and answers by what became of them, with examples of what went wrong."""
    asked = result["questions"] - result["not_asked"]
    rows = [
        ["questions", count_up(result["questions"]), ""],
        ["asked", count_up(asked), ""],
        ["left for later by --limit", count_up(result["not_asked"]), ""],
        *(
            [f"could not be asked: {reason}", count_up(count), result["failure_examples"][reason]]
            for reason, count in result["failed"].items()
        ),
        *(
            [f"answers {status}", count_up(count), ""]
            for status, count in result["answer_status"].items()
        ),
        ["unreadable answers", count_up(result["unreadable"]), ""],
        *(["", "", example] for example in result["unreadable_examples"]),
    ]
    texts = [[name, count, cut_text(example)] for name, count, example in rows]
    return Table(["", "count", "example"], texts, is_numeric=False)


def _describe_comparison(result: Mapping[str, Any]) -> tuple[str, Table] | None:
    against = result["against"]
    if not against or not against["groups"]:
        return None
    groups = against["groups"]
    names = list(next(iter(groups.values()))["differences"])
    suffix = against["suffix"]
    note = "" if suffix == result["suffix"] else f", which was asked with the suffix {suffix!r}"
    head = ["less the other", "items", *(label_figure(name, result["benchmark"]) for name in names)]
    rows = [
        [
            group,
            count_up(row["items"]),
            *(format_difference(name, row["differences"][name]) for name in names),
            f"{row['only_this']:,} and {row['only_other']:,}",
            f"{row['p_value']:.3g}",
        ]
        for group, row in groups.items()
    ]
    table = Table([*head, "right: only this, only the other", "McNemar's p"], rows)
    return f"{against['model']} in {against['output']}{note}", table


def _rank_mistakes(answers: Sequence[BenchmarkAnswer]) -> list[BenchmarkAnswer]:
    """Answers that are not right, those about the images with most of them first."""
    wrong = [answer for answer in answers if answer.is_measured and not answer.is_right]
    of_image = Counter(answer.question.image for answer in wrong)
    return sorted(wrong, key=lambda answer: (-of_image[answer.question.image], answer.question.key))


def _choose_mistakes(ranked: Sequence[BenchmarkAnswer]) -> list[BenchmarkAnswer]:
    """The first mistakes of every group, of each image in turn."""
    seen: Counter[tuple[str, str]] = Counter()
    of_group: Counter[tuple[str, int]] = Counter()
    order = []
    for place, answer in enumerate(ranked):
        group, image = answer.question.group, answer.question.image
        of_image = seen[group, image]  # how many of the image come before it
        order.append((of_image, of_group[group, of_image], place))
        of_group[group, of_image] += 1
        seen[group, image] += 1
    chosen = [ranked[place] for *_, place in sorted(order)[:MAX_MISTAKES]]
    groups = list(dict.fromkeys(answer.question.group for answer in ranked))
    return sorted(chosen, key=lambda answer: groups.index(answer.question.group))


def _describe_mistake(answer: BenchmarkAnswer, images: Mapping[str, bytes]) -> Mistake:
    question = answer.question
    return Mistake(
        group=question.group,
        place=question.key,
        prompt=cut_text(answer.prompt),
        options=[(letter, cut_text(text)) for letter, text in question.options.items()],
        answer=None if answer.answer is None else cut_text(answer.answer),
        said=answer.verdict or "unreadable",
        label=question.label,
        image=make_thumbnail(images.get(question.image)),
    )


def _find_images(benchmark: Benchmark, names: set[str]) -> dict[str, bytes]:
    """Images by their names in the questions: in the records, in the run, or where it read them."""
    images = _read_kept_images(benchmark, names)
    config = benchmark.report.get("config") or {}
    folders = [benchmark.folder.location / IMAGES]
    for path in (config.get("image_root"), config.get("data")):
        try:
            folders += [Location.parse(path, "RUN")] if isinstance(path, str) else []
        except PreflightError:
            continue
    for name in names - {*images}:
        if ".." in name.split("/"):
            continue  # it leads out of the folder
        for folder in folders:
            try:
                images[name] = (folder / name).read()
                break
            except storage.ERRORS:
                continue
    return images


def _read_kept_images(benchmark: Benchmark, names: set[str]) -> dict[str, bytes]:
    """Images that the records hold, which they do with --keep-images."""
    images: dict[str, bytes] = {}
    if not (benchmark.report.get("identity") or {}).get("keep_images"):
        return images
    for manifest in benchmark.manifests:
        keys = read_records(benchmark.folder, manifest, ["key"])["key"].to_pylist()
        rows = [row for row, key in enumerate(keys) if key in names]
        if rows:
            table = read_records(benchmark.folder, manifest, ["image"]).take(rows)
            kept = table["image"].to_pylist()
            images |= {keys[row]: image for row, image in zip(rows, kept, strict=True) if image}
    return images
