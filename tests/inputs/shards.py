"""The steps from files to rows, for tests of a format: the units and rows of what a path holds."""

from pathlib import Path
from typing import Any

from c3l_ray.inputs import find, read
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.schema import STAGED_ROWS

DEFAULT_LAYOUT = Layout()


def find_shards(*paths: Path | str, layout: Layout = DEFAULT_LAYOUT) -> list[Shard]:
    return find.find_shards(tuple(map(str, paths)), layout)


def find_only_shard(path: Path | str, layout: Layout = DEFAULT_LAYOUT) -> Shard:
    (shard,) = find_shards(path, layout=layout)
    return shard


def index_only_shard(path: Path | str, layout: Layout = DEFAULT_LAYOUT) -> list[Unit]:
    """The units of the only shard that a path holds."""
    return read.index_shard(find_only_shard(path, layout), layout)


def read_rows(path: Path | str, layout: Layout = DEFAULT_LAYOUT) -> list[dict[str, Any]]:
    """Every row of the only shard that a path holds, unit by unit."""
    rows = []
    for unit in index_only_shard(path, layout):
        table = read.read_unit(unit, layout)
        assert table.schema.equals(STAGED_ROWS)
        assert table.num_rows == unit.rows
        assert set(table["unit"].to_pylist()) <= {unit.name}
        rows += table.to_pylist()
    return rows
