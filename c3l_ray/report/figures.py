"""Figures as inline SVG, coloured by the page's style sheet: light and dark alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

NUM_BARS = 28
NUM_LENGTH_BINS = 8
CROWDED_FROM = 10
"""How many times the median an end of an axis is from which on it is logarithmic."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Numbers of a figure under one name; `style` is the number of its colour in the page."""

    name: str
    values: Floats
    style: int


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line through points, or points alone."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: int
    has_line: bool = True


@dataclass(frozen=True)
class Axis:
    """Where an axis begins and ends, and whether it is logarithmic, in the size of the values."""

    low: float
    high: float
    is_logarithmic: bool = False

    def place(self, values: ArrayLike) -> Floats:
        """Where values lie, from 0 at the beginning of the axis to 1 at its end, or at an end."""
        low, high = self._scale(np.array(self.low)), self._scale(np.array(self.high))
        clipped = np.clip(np.asarray(values, dtype=float), self.low, self.high)
        placed: Floats = (self._scale(clipped) - low) / (high - low)
        return placed

    def _scale(self, values: Floats) -> Floats:
        if not self.is_logarithmic:
            return values
        scaled: Floats = np.sign(self.low) * np.log(np.abs(values))
        return scaled


def find_axis(arrays: Sequence[Floats]) -> Axis:
    """An axis from the 1st to the 99th percentile of all finite values.

    It is logarithmic where these are of one sign, and most values crowd at its end nearer to 0.
    """
    values = np.concatenate([array[np.isfinite(array)] for array in arrays] or [np.empty(0)])
    if not len(values):
        return Axis(0.0, 1.0)
    low, median, high = (float(edge) for edge in np.percentile(values, [1, 50, 99]))
    if low == high:
        return Axis(*_widen(low, high))
    is_crowded = low * high > 0 and max(abs(low), abs(high)) > CROWDED_FROM * abs(median)
    return Axis(low, high, is_crowded)


def draw_histogram(
    series: Sequence[Series],
    *,
    title: str,
    axis: Axis,
    threshold: float | None = None,
) -> Markup:
    """Shares of values in bars, the last series filled, those before it as outlines.

    The first and the last bar hold what lies beyond the axis.

    Args:
        series: each over the same axis.
        title: says to a reader without sight what it shows.
        axis: of the values.
        threshold: drawn as a line where it is not None.
    """
    width, height, top = 220.0, 64.0, 6.0
    shares = []
    for one in series:
        finite = one.values[np.isfinite(one.values)]
        counts, _ = np.histogram(axis.place(finite), NUM_BARS, (0, 1))
        shares.append(counts / max(1, len(finite)))
    tallest = max([float(share.max()) for share in shares] + [1e-9])
    bar = width / NUM_BARS
    paths = []
    for number, (one, share) in enumerate(zip(series, shares, strict=True)):
        y = top + (height - top) * (1 - share / tallest)
        steps = " ".join(
            f"{'M' if place == 0 else 'L'}{place * bar:.1f} {level:.1f}H{(place + 1) * bar:.1f}"
            for place, level in enumerate(y.tolist())
        )
        if number == len(series) - 1:
            outline = f"M0 {height} L{steps[1:]}V{height}Z"
            paths.append(f'<path class="area s{one.style}" d="{outline}"/>')
        else:
            paths.append(f'<path class="line s{one.style}" d="{steps}"/>')
    mark = ""
    if threshold is not None:
        x = float(axis.place(threshold)) * width
        mark = f'<path class="threshold" d="M{x:.1f} 0V{height}"/>'
    base = f'<path class="axis" d="M0 {height}H{width}"/>'
    ticks = [
        _label(0, height + 12, axis.low, "start"),
        _label(width, height + 12, axis.high, "end"),
    ]
    if axis.is_logarithmic:
        ticks.append(f'<text x="{width / 2}" y="{height + 12}" text-anchor="middle">log</text>')
    return _svg(width, height + 15, title, [*paths, base, mark, *ticks])


def draw_by_length(lengths: Floats, values: Floats, *, title: str, axis: Axis) -> Markup:
    """The median of a score, and its middle half, over answers of rising length.

    Args:
        lengths: of answers, in characters, [N].
        values: of the score, [N].
        title: as for a histogram.
        axis: of the score; the figure has the part of it that it needs.
    """
    width, height = 220.0, 70.0
    known = np.isfinite(lengths) & np.isfinite(values)
    lengths, values = lengths[known], values[known]
    if len(values) < 2 or lengths.min() == lengths.max():
        return Markup("")
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, NUM_LENGTH_BINS + 1)))
    bins = np.clip(np.searchsorted(edges, lengths, side="right") - 1, 0, len(edges) - 2)
    points = [
        (
            float(np.median(lengths[bins == place])),
            *np.quantile(values[bins == place], [0.25, 0.5, 0.75]),
        )
        for place in range(len(edges) - 1)
        if (bins == place).any()
    ]
    low, high = min(point[1] for point in points), max(point[3] for point in points)
    low, high = _widen(low, high)
    shown = Axis(low, high, axis.is_logarithmic and low * high > 0)
    first, last = points[0][0], points[-1][0]

    def place(length: float, value: float) -> str:
        x = (length - first) / max(last - first, 1e-9) * width
        return f"{x:.1f} {4 + (height - 8) * (1 - float(shown.place(value))):.1f}"

    upper = [place(point[0], point[3]) for point in points]
    lower = [place(point[0], point[1]) for point in reversed(points)]
    median = "L".join(place(point[0], point[2]) for point in points)
    return _svg(
        width,
        height + 15,
        title,
        [
            f'<path class="band" d="M{"L".join(upper + lower)}Z"/>',
            f'<path class="line s0" d="M{median}"/>',
            f'<path class="axis" d="M0 {height}H{width}"/>',
            _label(0, 9, high, "start"),
            _label(0, height - 3, low, "start"),
            _label(0, height + 12, first, "start"),
            _label(width, height + 12, last, "end", " characters"),
        ],
    )


def draw_curves(curves: Sequence[Curve], *, title: str) -> Markup:
    """Measurements over the steps of a training."""
    width, height = 300.0, 110.0
    points = [
        (x, y) for curve in curves for x, y in zip(curve.x, curve.y, strict=True) if np.isfinite(y)
    ]
    if not points:
        return Markup("")
    last = max(x for x, _ in points) or 1
    low, high = min(y for _, y in points), max(y for _, y in points)
    low, high = _widen(low, high)

    def place(x: float, y: float) -> tuple[float, float]:
        return x / last * (width - 6) + 3, 6 + (height - 12) * (1 - (y - low) / (high - low))

    parts = []
    for curve in curves:
        known = zip(curve.x, curve.y, strict=True)
        placed = [place(x, y) for x, y in known if np.isfinite(y)]
        if curve.has_line and len(placed) > 1:
            line = "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
            parts.append(f'<path class="line s{curve.style}" d="M{line}"/>')
        if not curve.has_line or len(placed) <= 12:
            parts += (
                f'<circle class="dot s{curve.style}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'
                for x, y in placed
            )
    return _svg(
        width,
        height + 15,
        title,
        [
            f'<path class="axis" d="M0 {height}H{width}"/>',
            *parts,
            _label(0, 9, high, "start"),
            _label(0, height - 4, low, "start"),
            _label(width, height + 12, last, "end", " steps"),
        ],
    )


def _widen(low: float, high: float) -> tuple[float, float]:
    """Two ends of an axis that differ."""
    pad = abs(low) * 0.05 or 0.5
    return (low - pad, high + pad) if low == high else (low, high)


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> Markup:
    """A figure of these parts, which hold numbers and escaped texts only."""
    return Markup(
        f'<svg class="figure" role="img" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )


def format_number(value: float) -> str:
    """A number in three digits that count, without an exponent where that is short."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if size >= 0.0001 else f"{value:.2g}"


def _label(x: float, y: float, value: float, anchor: str, unit: str = "") -> str:
    text = escape(format_number(value) + unit)
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{text}</text>'
