import re

import numpy as np
import pytest

from c3l_ray.report import figures
from c3l_ray.report.figures import Axis, Curve, Series, find_axis


@pytest.mark.parametrize(
    "axis",
    [Axis(-2, 3), Axis(0.001, 10, is_logarithmic=True), Axis(-10, -0.001, is_logarithmic=True)],
)
def test_an_axis_rises_from_0_to_1_and_holds_what_lies_beyond(axis: Axis) -> None:
    places = axis.place(np.linspace(axis.low, axis.high, 50))
    assert places[0] == pytest.approx(0) and places[-1] == pytest.approx(1)
    assert (np.diff(places) > 0).all()
    np.testing.assert_allclose(axis.place([-1e9, 1e9]), [0, 1], atol=1e-12)


def test_an_axis_is_logarithmic_where_values_crowd_near_0() -> None:
    rng = np.random.default_rng(0)
    crowded = np.exp(rng.normal(size=1000) * 3)
    assert find_axis([crowded]).is_logarithmic and find_axis([-crowded]).is_logarithmic
    assert not find_axis([crowded - 1]).is_logarithmic
    assert not find_axis([rng.normal(size=1000) + 10]).is_logarithmic
    assert find_axis([np.array([np.nan, 2.0, 2.0])]) == Axis(1.9, 2.1)
    assert find_axis([np.array([])]) == Axis(0, 1)


def test_a_histogram_has_its_values_where_they_are() -> None:
    values = np.array([0.0] * 3 + [1.0] * 1)
    series = [Series(name="run", values=values, style=0)]
    figure = figures.draw_histogram(series, title="t", axis=Axis(0, 1), threshold=0.5)
    (outline,) = re.findall(r'class="area s0" d="([^"]+)"', figure)
    tops = [float(top) for top in re.findall(r"L\S+ (\S+?)H", outline)]
    assert len(tops) == figures.NUM_BARS
    assert tops[0] == 6.0 and tops[-1] == pytest.approx(6 + 58 * 2 / 3, abs=0.1)
    assert set(tops[1:-1]) == {64.0}
    assert 'class="threshold" d="M110.0 0' in figure


def test_titles_are_escaped() -> None:
    title = "</title><script>alert(1)</script>"
    series = [Series(name="run", values=np.array([1.0]), style=0)]
    curve = Curve(name="loss", x=[1, 2], y=[1, 2], style=0)
    lengths = np.array([1.0, 2.0, 3.0])
    for figure in (
        figures.draw_histogram(series, title=title, axis=Axis(0, 1)),
        figures.draw_curves([curve], title=title),
        figures.draw_by_length(lengths, lengths, title=title, axis=Axis(1, 3)),
    ):
        assert "<script" not in figure and "&lt;script" in figure


def test_what_has_no_values_is_no_figure() -> None:
    nothing, one = np.array([]), np.array([1.0, 1.0])
    assert figures.draw_by_length(nothing, nothing, title="t", axis=Axis(0, 1)) == ""
    assert figures.draw_by_length(one, one, title="t", axis=Axis(0, 1)) == ""
    assert figures.draw_curves([], title="t") == ""
    curve = Curve(name="loss", x=[1], y=[float("nan")], style=0)
    assert figures.draw_curves([curve], title="t") == ""
    assert figures.draw_curves([Curve(name="loss", x=[0], y=[5.0], style=0)], title="t")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (5540.3, "5,540"), (12.345, "12.3"), (-0.00123, "-0.00123"), (2.5e-7, "2.5e-07")],
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert figures.format_number(value) == text
