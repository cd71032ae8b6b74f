"""Images of an input that a plan really runs: drawn over its shards, and packed into one file.

The file is one unit, whatever its size: all of its images are generated together, and then scored
together, so that the seconds of a stage are those of the sample alone.
"""

import io
import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray.inputs.index import write_units
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.read import read_unit
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.planning.input_count import list_parts
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import STAGED_ROWS, error_reason

NUM_READERS = 4  # each holds a unit of at most 64 MB
FILE = "sample.parquet"
LAYOUT = Layout(image="image", caption="caption", key="key", meta="meta")
"""Of the file."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Images of an input.

    Attributes:
        rows: of the schema STAGED_ROWS; those that cannot be read have an error.
        shards: the source of each.
    """

    rows: pa.Table
    shards: list[str]

    @property
    def readable(self) -> list[int]:
        """The rows that a model can be asked about."""
        errors = self.rows["error"].to_pylist()
        return [row for row, error in enumerate(errors) if error is None]

    @property
    def reasons(self) -> Counter[str]:
        """How many of the rows cannot be read, by the first word of their error."""
        errors = self.rows["error"].to_pylist()
        return Counter(error_reason(error) for error in errors if error is not None)


def choose_places(num_images: int, num_drawn: int, seed: int) -> list[int]:
    """A systematic sample of places in [0, num_images): each as likely, at equal distances.

    Cochran, Sampling Techniques, chapter 8. Where fewer images are there, all of them.
    """
    if num_images <= num_drawn:
        return list(range(num_images))
    step = num_images / num_drawn
    start = random.Random(seed).random() * step
    return [min(int(start + number * step), num_images - 1) for number in range(num_drawn)]


def draw_sample(units: Sequence[Unit], layout: Layout, num_drawn: int, seed: int) -> Sample:
    """Images of these units, each as likely to be drawn, spread over all of their shards.

    Args:
        units: of counted shards; they hold an image.
        layout: where an image is found in its file.
        num_drawn: how many images.
        seed: of which they are.

    Raises:
        OSError: the storage failed.
    """
    parts = list(list_parts(units))
    places = choose_places(sum(part.num_found for part in parts), num_drawn, seed)
    rows_of: list[tuple[Unit, list[int]]] = []
    first = 0
    for part in parts:
        rows = [place - first for place in places if first <= place < first + part.num_found]
        if rows:
            rows_of.append((part, rows))
        first += part.num_found

    def read_rows(part_and_rows: tuple[Unit, list[int]]) -> pa.Table:
        part, rows = part_and_rows
        return read_unit(part, layout, []).take(rows)

    with ThreadPoolExecutor(NUM_READERS) as readers:
        tables = list(readers.map(read_rows, rows_of))
    shards = [part.source for part, rows in rows_of for _ in rows]
    return Sample(rows=pa.concat_tables(tables), shards=shards)


def write_sample(sample: Sample, images: RunFolder, run: RunFolder) -> Shard:
    """Writes the readable images as an input of one shard, which is one unit of a run.

    Args:
        sample: of which at least one image is readable.
        images: folder for the file.
        run: folder of the run that is to read it; its index is written too.

    Returns:
        The shard. The key of an image is its row in the sample.

    Raises:
        OSError: the storage failed.
    """
    rows = sample.readable
    columns = {name: sample.rows[name].take(rows) for name in ("image", "caption", "meta")}
    schema = pa.schema([STAGED_ROWS.field(name) for name in ("key", *columns)])
    keys = [f"{row:08d}" for row in rows]
    table = pa.table({"key": keys, **columns}, schema=schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=len(rows))
    content = buffer.getvalue()
    images.write(FILE, content)
    location = images.location / FILE
    size = len(content)
    shard = Shard(format="parquet", path=location.url, source=FILE, size=size)
    unit = Unit(
        name=f"{shard.name}-00000",
        format="parquet",
        path=shard.path,
        source=shard.source,
        start=0,
        end=len(rows),
        rows=len(rows),
        size=size,
    )
    write_units(run, shard, [unit])
    return shard
