"""The dashboard: every query names a metric that jobs export, and every metric is shown."""

import json
import re
from pathlib import Path
from typing import Any

from c3l_ray.distributed.metrics import COUNTERS, GAUGES, HISTOGRAMS, exported_names

FILE = Path(__file__).parent.parent.parent / "cluster" / "grafana" / "c3l-ray.json"
NAME = re.compile(r"\bray_\w+")


def read_board() -> dict[str, Any]:
    return dict(json.loads(FILE.read_text()))


def list_queries(board: dict[str, Any]) -> list[str]:
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [*queries, *(v["query"] for v in board["templating"]["list"] if v["type"] == "query")]


def test_every_query_names_metrics_that_are_exported_and_none_is_left_out() -> None:
    queries = list_queries(read_board())
    names = [{*NAME.findall(query)} for query in queries]
    assert all(names), "a query without a metric"
    assert set().union(*names) == exported_names()


def test_every_query_is_of_the_runs_that_were_chosen_and_its_brackets_close() -> None:
    board = read_board()
    for panel in board["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            assert query.count('{run=~"$run"}') == len(NAME.findall(query)), query
            for opening, closing in ("()", "[]", "{}"):
                assert query.count(opening) == query.count(closing), query
    variables = [variable["name"] for variable in board["templating"]["list"]]
    assert variables == ["datasource", "run"]


def test_the_panels_are_titled_and_do_not_overlap() -> None:
    panels = read_board()["panels"]
    assert all(panel["title"] and panel["description"] for panel in panels)
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len({*cells}) == len(cells) and max(x for x, _ in cells) < 24


def test_the_page_lists_the_metrics_with_their_tags() -> None:
    page = (FILE.parent.parent / "README.md").read_text()
    rows = re.findall(r"^\| `(ray_\w+)` \| (.*?) \|", page, re.MULTILINE)
    listed = {name: {*re.findall(r"`(\w+)`", tags)} for name, tags in rows}
    assert listed == {
        **{f"ray_{name}_total": {*spec[1]} for name, spec in COUNTERS.items()},
        **{f"ray_{name}": {*spec[1]} for name, spec in (GAUGES | HISTOGRAMS).items()},
    }
