"""Whether every image of an input comes out: for tests that draw inputs of any format."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.read import index_shard, read_unit
from c3l_ray.inputs.units import Unit
from c3l_ray.schema import STAGED_ROWS
from tests.inputs.shards import DEFAULT_LAYOUT, find_shards


@dataclass
class DrawnInput:
    """An input that was drawn, and what is in it.

    Attributes:
        paths: what a user gives to --input.
        images: the content of every image that can be read.
        captions: of images, by their content, where they have one.
        unreadable: how many images cannot be read: rows, which fail.
        others: how many rows fail for another reason, such as a sample without an image.
        passed_over: how many images in its shards are no rows, and are said to be none.
        refusal: what a refusal says; None where the input is not to be refused.
    """

    paths: list[Path | str]
    images: list[bytes] = field(default_factory=list)
    captions: dict[bytes, str] = field(default_factory=dict)
    unreadable: int = 0
    others: int = 0
    passed_over: int = 0
    refusal: str | None = None


def read_all_rows(paths: list[Path | str], layout: Layout = DEFAULT_LAYOUT) -> list[dict[str, Any]]:
    """Every row of an input, shard by shard and unit by unit."""
    return read_units(index_all(paths, layout), layout)


def index_all(paths: list[Path | str], layout: Layout) -> list[Unit]:
    return [
        unit for shard in find_shards(*paths, layout=layout) for unit in index_shard(shard, layout)
    ]


def read_units(units: list[Unit], layout: Layout) -> list[dict[str, Any]]:
    rows = []
    for unit in units:
        table = read_unit(unit, layout)
        assert table.schema.equals(STAGED_ROWS) and table.num_rows == unit.rows
        rows += table.to_pylist()
    return rows


def check_every_image_is_counted(drawn: DrawnInput, layout: Layout = DEFAULT_LAYOUT) -> None:
    """Images in are rows out, or the input is refused; ids tell rows apart."""
    if drawn.refusal is not None:
        with pytest.raises(PreflightError, match=drawn.refusal):
            find_shards(*drawn.paths, layout=layout)
        return
    units = index_all(drawn.paths, layout)
    assert sum(unit.num_passed_over for unit in units) == drawn.passed_over
    rows = read_units(units, layout)
    assert Counter(row["image"] for row in rows if row["error"] is None) == Counter(drawn.images)
    failed = [row for row in rows if row["error"] is not None]
    assert len(failed) == drawn.unreadable + drawn.others, [row["error"] for row in failed]
    assert all(row["image"] is None for row in failed)
    assert len({row["image_id"] for row in rows}) == len(rows)
    captions = {row["image"]: row["caption"] for row in rows if row["caption"] is not None}
    assert captions.items() >= drawn.captions.items()
