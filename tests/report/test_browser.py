"""The page in a real browser: it renders, filters, links, complains not and loads nothing."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from c3l_ray.workflows.report import write_report
from tests.examples import EncodeImage
from tests.report.browser import BrowserPage, find_chromium, open_browser
from tests.report.runs import UNUSABLE, make_records, make_turn, write_run
from tests.report.test_page import ATTACK

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

COUNT = "Array.from(document.querySelectorAll('article.turn:not([hidden])')).length"
FILTER = """(() => {{
  const form = document.getElementById('filters');
  form.elements['{name}'].value = {value!r};
  form.dispatchEvent(new Event('input', {{bubbles: true}}));
  return [{count}, document.getElementById('num-shown').textContent];
}})()"""
RESET = (
    "(async () => { document.querySelector('#filters button').click();"
    f" await new Promise((done) => setTimeout(done, 50)); return {COUNT}; }})()"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserPage]:
    assert CHROMIUM is not None
    with open_browser(CHROMIUM, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(tmp_path: Path, browser: BrowserPage, encoded: EncodeImage) -> BrowserPage:
    """A browser that has opened the page of a run with hostile texts."""
    records = make_records(40, image=encoded())
    for record in records[:10]:
        record["turns"][0]["kind"] = "short"
    hostile = make_turn(0.3, question=ATTACK, answer=ATTACK, kind=ATTACK, draft=f"d {ATTACK}")
    failed = {"turns": [], "key": ATTACK, "error": f"empty: {ATTACK}"}
    write_run(tmp_path, [*records, {"turns": [hostile, UNUSABLE], "image_id": ATTACK}, failed])
    browser.complaints.clear()
    browser.requests.clear()
    path = write_report([str(tmp_path)], by="visual_ifd")
    browser.open(f"file://{path}")
    return browser


def filter_by(page: BrowserPage, name: str, value: str) -> int:
    """How many turns are shown when a filter has a value; the page says as many."""
    number, said = page.evaluate(FILTER.format(name=name, value=value, count=COUNT))
    assert said == str(number)
    return int(number)


def test_it_renders_without_complaint_and_asks_for_nothing(page: BrowserPage) -> None:
    assert page.evaluate("document.querySelector('h1').textContent")
    widths = page.evaluate("Array.from(document.images, (one) => one.naturalWidth)")
    assert widths and set(widths) == {40}
    width = page.evaluate("document.querySelector('.figure').getBoundingClientRect().width")
    assert width > 100
    outside = [one for one in page.requests if not one.startswith(("file:", "data:"))]
    assert outside == [] and len([one for one in page.requests if one.startswith("file:")]) == 1
    assert page.complaints == []
    assert page.evaluate("document.querySelectorAll('script, img[src=x]').length") == 1


def test_filters_show_the_turns_that_fit(page: BrowserPage) -> None:
    everything = page.evaluate(COUNT)
    assert everything == 42
    assert filter_by(page, "kind", "short") == 10
    assert page.evaluate(RESET) == everything
    assert filter_by(page, "text", " Answer  17 is red") == 1
    assert filter_by(page, "text", "no such word") == 0
    assert page.evaluate("document.getElementById('nothing-shown').hidden") is False
    assert page.evaluate(RESET) == everything
    assert filter_by(page, "status", "unparsable") == 1
    assert page.evaluate(RESET) == everything
    assert filter_by(page, "low", "0.28") == 4  # 1, 1/2, 1/3 and the hostile 0.3
    assert filter_by(page, "high", "0.6") == 3
    assert page.evaluate(RESET) == everything
    assert filter_by(page, "low", "x") == everything
    assert page.complaints == []


def test_a_link_leads_to_a_turn_that_a_filter_hides(page: BrowserPage) -> None:
    anchor = page.evaluate("document.querySelector('article.turn[data-kind=short]').id")
    assert filter_by(page, "kind", "dialogue") < 42
    hidden = f"document.getElementById('{anchor}').hidden"
    assert page.evaluate(hidden) is True
    wait = "new Promise((done) => setTimeout(done, 100))"
    page.evaluate(f"(location.hash = '{anchor}', {wait})")
    assert page.evaluate(hidden) is False
    place = f"document.getElementById('{anchor}').getBoundingClientRect().top"
    assert 0 <= page.evaluate(place) < page.evaluate("window.innerHeight")


def test_dark_is_dark_and_a_narrow_window_does_not_scroll_sideways(page: BrowserPage) -> None:
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(paper)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.call("Emulation.setEmulatedMedia", features=dark)
    assert page.evaluate(paper) != light
    page.call("Emulation.setEmulatedMedia", features=[])
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.call("Emulation.clearDeviceMetricsOverride")


def test_headings_go_down_one_level_at_a_time(page: BrowserPage) -> None:
    levels = page.evaluate(
        "Array.from(document.querySelectorAll('h1,h2,h3,h4'), (h) => +h.tagName[1])"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    figures = "Array.from(document.querySelectorAll('svg.figure'))"
    unnamed = f"{figures}.filter((one) => !one.querySelector('title').textContent).length"
    assert page.evaluate(unnamed) == 0
    assert page.evaluate("Array.from(document.images).filter((one) => !one.alt).length") == 0
