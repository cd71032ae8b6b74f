"""What a report says of turns as a whole: scores by kind and by length, runs, trainings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from c3l_ray.methods import ranking
from c3l_ray.methods.scores import SCORES
from c3l_ray.report import figures
from c3l_ray.report.gather import Training
from c3l_ray.report.selections import KeptTurns
from c3l_ray.report.tables import Table, count_up, format_share, format_value
from c3l_ray.report.turn_table import TurnTable

COMPARED_SCORES = ("image_logprob", "gain", "visual_ifd", "grounding", "i2c", "clip")
CURVES = (
    ("loss", ("loss", "contrastive", "nll")),
    ("similarity", ("positive_similarity", "negative_similarity")),
    ("gradient norm", ("grad_norm",)),
    ("learning rate", ("learning_rate",)),
    ("tokens a second", ("tokens_per_s",)),
)


@dataclass(frozen=True, kw_only=True)
class KindFigure:
    """A score's histogram among the turns of a kind, with medians in words."""

    kind: str
    figure: Markup
    caption: str


@dataclass(frozen=True, kw_only=True)
class ScoreSection:
    """A score: what it is, its distribution by kind, and how it goes with length."""

    name: str
    definition: str
    caveat: str
    higher_is_better: bool
    kinds: list[KindFigure]
    by_length: Markup
    correlation: str


@dataclass(frozen=True, kw_only=True)
class CurveFigure:
    """Measurements of a training that belong together."""

    title: str
    figure: Markup
    legend: list[tuple[str, int]]


def describe_scores(
    tables: Sequence[TurnTable], kept: Sequence[KeptTurns], first: str
) -> list[ScoreSection]:
    """Every score that some turn has, `first` before the others.

    Args:
        tables: of the runs; the last is what selections were made from.
        kept: selections from the last run.
        first: the score that the report ranks by.
    """
    sections = []
    for score in sorted(SCORES, key=lambda score: score.name != first):
        name = score.name
        if not any(np.isfinite(table.values(name)).any() for table in tables):
            continue
        is_ok = [table.is_ok() for table in tables]
        axis = figures.find_axis(
            [table.values(name)[ok] for table, ok in zip(tables, is_ok, strict=True)]
        )
        selections = [one for one in kept if one.dataset.selection.get("by") == name]
        kinds = [
            kind
            for kind in dict.fromkeys(kind for table in reversed(tables) for kind in table.kinds)
            if any(np.isfinite(table.values(name)[table.is_kind(kind)]).any() for table in tables)
        ]
        last, ok = tables[-1], is_ok[-1]
        sections.append(
            ScoreSection(
                name=name,
                definition=score.definition,
                caveat=score.caveat,
                higher_is_better=score.higher_is_better,
                kinds=[_draw_kind(tables, kind, name, axis, selections) for kind in kinds],
                by_length=figures.draw_by_length(
                    last.columns["length"].to_numpy(zero_copy_only=False)[ok].astype(float),
                    last.values(name)[ok],
                    title=f"{name} against answer length in {last.run.name}",
                    axis=axis,
                ),
                correlation=_correlate_with_length(last, name),
            )
        )
    return sections


def compare_runs(tables: Sequence[TurnTable]) -> Table:
    """Runs side by side: how much is usable, how varied, how new, and medians of scores."""
    columns: list[dict[str, str]] = []
    for number, table in enumerate(tables):
        ok = table.columns.filter(pa.array(table.is_ok()))
        questions = pc.utf8_lower(ok["question"])
        counts = np.array([one["counts"] for one in pc.value_counts(questions).to_pylist()], float)
        column = {
            "turns read": count_up(table.columns.num_rows),
            "usable": format_share(ok.num_rows, table.columns.num_rows),
            "distinct questions": count_up(len(counts)),
            "effective number of questions": f"{_effective_number(counts):,.1f}",
            "median answer length, in characters": _format_length(_median(ok["length"].to_numpy())),
        }
        if number:
            earlier = tables[number - 1]
            new, of = _count_new(ok, earlier.columns)
            column["new: not in the run before"] = format_share(new, of)
        else:
            column["new: not in the run before"] = "-"
        for name in COMPARED_SCORES:
            values = table.values(name)[table.is_ok()]
            column[f"median {name}"] = format_value(_median(values))
        columns.append(column)
    labels = list(columns[0]) if columns else []
    rows = [[label, *(column[label] for column in columns)] for label in labels]
    return Table(["", *(table.run.name for table in tables)], rows)


def draw_training(training: Training) -> list[CurveFigure]:
    """The curves of a training's measurements; those on held-out images are points."""
    drawn = []
    for title, names in CURVES:
        curves = []
        for style, name in enumerate(names):
            for key, has_line in ((name, True), (f"held_out_{name}", False)):
                lines = [
                    line for line in training.measurements if isinstance(line.get(key), int | float)
                ]
                if lines:
                    label = key.replace("_", " ")
                    x, y = [line["step"] for line in lines], [line[key] for line in lines]
                    curves.append(
                        figures.Curve(name=label, x=x, y=y, style=style, has_line=has_line)
                    )
        figure = figures.draw_curves(curves, title=f"{title} of {training.name}")
        if figure:
            legend = [(curve.name, curve.style) for curve in curves]
            drawn.append(CurveFigure(title=title, figure=figure, legend=legend))
    return drawn


def _draw_kind(
    tables: Sequence[TurnTable],
    kind: str,
    score: str,
    axis: figures.Axis,
    selections: Sequence[KeptTurns],
) -> KindFigure:
    series = []
    for number, table in enumerate(tables):
        values = table.values(score)[table.is_kind(kind) & table.is_ok()]
        style = 0 if number == len(tables) - 1 else 1 + number % 3
        series.append(figures.Series(name=table.run.name, values=values, style=style))
    threshold = next((one.worst[kind] for one in selections if kind in one.worst), None)
    medians = ", ".join(f"{format_value(_median(one.values))}" for one in series)
    caption = f"median {medians}" + (
        f"; worst kept {figures.format_number(threshold)}" if threshold is not None else ""
    )
    figure = figures.draw_histogram(
        series, title=f"{score} of {kind}: {caption}", axis=axis, threshold=threshold
    )
    return KindFigure(kind=kind, figure=figure, caption=caption)


def _correlate_with_length(table: TurnTable, score: str) -> str:
    """Spearman's correlation over the usable turns that were read."""
    values = table.values(score)
    known = table.is_ok() & np.isfinite(values)
    lengths = table.columns["length"].to_numpy(zero_copy_only=False)[known]
    correlation = ranking.spearman(values[known], lengths)
    return "-" if correlation is None else f"{correlation:+.2f}"


def _count_new(turns: pa.Table, earlier: pa.Table) -> tuple[int, int]:
    """How many turns are not among the earlier ones of their images, and of how many images'."""
    shared = turns.filter(pc.is_in(turns["image_id"], value_set=earlier["image_id"].unique()))

    def join(table: pa.Table) -> pa.ChunkedArray:
        texts = (pc.fill_null(table[name], "") for name in ("image_id", "question", "answer"))
        return pc.binary_join_element_wise(*texts, "\x1f")

    is_old = pc.is_in(join(shared), value_set=join(earlier))
    return shared.num_rows - (pc.sum(is_old).as_py() or 0), shared.num_rows


def _effective_number(counts: np.ndarray[Any, Any]) -> float:
    """The exponential of the entropy of shares."""
    if not len(counts):
        return 0.0
    shares = counts / counts.sum()
    return math.exp(-float(np.sum(shares * np.log(shares))))


def _median(values: np.ndarray[Any, Any]) -> float | None:
    finite = values[np.isfinite(values.astype(float))]
    return float(np.median(finite)) if len(finite) else None


def _format_length(characters: float | None) -> str:
    return "-" if characters is None else f"{characters:.0f}"
