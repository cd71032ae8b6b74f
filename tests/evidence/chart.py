"""A chart of intervals as SVG: a line for each name, with its estimate and bounds."""

from collections.abc import Mapping
from xml.sax.saxutils import escape

from tests.evidence.bootstrap import Interval

WIDTH, LABEL_WIDTH, ROW_HEIGHT, MARGIN = 640, 190, 22, 34
NUM_TICKS = 6


def draw_intervals(title: str, intervals: Mapping[str, Interval], *, reference: float) -> str:
    """The chart.

    Args:
        title: above it.
        intervals: by name, in the order of the lines.
        reference: where a vertical line stands, such as chance or no difference.
    """
    bounds = [reference, *(b for i in intervals.values() for b in (i.low, i.high))]
    low, high = min(bounds), max(bounds)
    padding = 0.05 * (high - low or 1.0)
    low, high = low - padding, high + padding
    bottom = MARGIN + ROW_HEIGHT * len(intervals)

    def place(value: float) -> float:
        return LABEL_WIDTH + (value - low) / (high - low) * (WIDTH - LABEL_WIDTH - 20)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom + 30}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="20" font-weight="bold">{escape(title)}</text>',
        _draw_line(place(reference), MARGIN, place(reference), bottom, "#999", "4 3"),
    ]
    for number in range(NUM_TICKS):
        value = low + (high - low) * number / (NUM_TICKS - 1)
        lines.append(
            f'<text x="{place(value):.1f}" y="{bottom + 18}" text-anchor="middle" '
            f'fill="#555">{value:.3g}</text>'
        )
    for number, (name, interval) in enumerate(intervals.items()):
        y = MARGIN + ROW_HEIGHT * (number + 0.5)
        lines += [
            f'<text x="10" y="{y + 4:.1f}">{escape(name)}</text>',
            _draw_line(place(interval.low), y, place(interval.high), y, "#2166ac"),
            f'<circle cx="{place(interval.estimate):.1f}" cy="{y:.1f}" r="4" fill="#2166ac"/>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _draw_line(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "") -> str:
    pattern = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="2"{pattern}/>'
    )
