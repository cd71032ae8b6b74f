"""Captions that a file lists for the images of a folder, as imagefolder of `datasets` has it.

`metadata.jsonl`, `metadata.csv` or `metadata.parquet` lies beside the images or further up; its
column `file_name` names an image relative to it.
"""

import csv
import io
import json
import posixpath
from collections.abc import Iterator
from typing import Any

from c3l_ray.inputs.formats import parquet
from c3l_ray.inputs.formats.parquet_columns import CAPTION_COLUMNS
from c3l_ray.inputs.layout import Layout
from c3l_ray.storage import Location

NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
NAME_COLUMN = "file_name"


def read_captions(location: Location, layout: Layout) -> tuple[dict[str, str], str | None]:
    """The captions by the paths of their images, relative to the file; and what is wrong with it.

    A row that is damaged costs its caption only.

    Raises:
        OSError: the storage failed.
    """
    columns = (layout.caption,) if layout.caption else CAPTION_COLUMNS
    captions: dict[str, str] = {}
    damage = None
    try:
        for place, row in _read_rows(location):
            name = row.get(NAME_COLUMN) if isinstance(row, dict) else None
            if not isinstance(name, str):
                damage = damage or f"{place}: no row with a {NAME_COLUMN}"
                continue
            caption = next((row[column] for column in columns if row.get(column)), None)
            if isinstance(caption, str):
                captions[posixpath.normpath(name)] = caption
    except Exception as error:  # of three readers, on bytes made by strangers
        if not parquet.is_damage(error):
            raise
        damage = str(error).strip()
    return captions, None if damage is None else f"{location.name} {damage}"


def _read_rows(location: Location) -> Iterator[tuple[str, Any]]:
    """(place, row) of each row; None for a line that is not JSON."""
    if location.name.lower().endswith(".parquet"):
        with location.open() as file:
            rows = parquet.open_file(file).read().to_pylist()
        yield from ((f"row {number}", row) for number, row in enumerate(rows))
        return
    text = location.read().decode("utf-8-sig")
    if location.name.lower().endswith(".csv"):
        reader = csv.DictReader(io.StringIO(text, newline=""))
        yield from ((f"line {reader.line_num}", row) for row in reader)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield f"line {number}", row
