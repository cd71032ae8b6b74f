"""Parquet files of samples: data/part-00000.parquet and so on.

They have a folder of their own, since pandas and others read a folder only where it holds nothing
but Parquet.

A row group holds at most 256 rows, so that readers of a few rows, shuffles and streams read little,
and each of its images once, however many rows show it: images are dictionary-encoded.
"""

import io
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray.runs.folder import PARTS, RunFolder

FILE_ROWS = 4096
FILE_BYTES = 256 * 2**20
GROUP_ROWS = 256
GROUP_BYTES = 256 * 2**20  # of images, once for each row: an Arrow array holds less than 2 GiB


class PartWriter:
    """Writes rows to files of about 4,096 rows or 256 MB each.

    Args:
        target: the dataset's folder.
        schema: of the rows.

    Attributes:
        num_files: written so far.
    """

    def __init__(self, target: RunFolder, schema: pa.Schema) -> None:
        self.num_files = 0
        self._target = target
        self._schema = schema
        self._group: list[dict[str, Any]] = []
        self._group_bytes = 0
        self._num_rows = 0
        self._buffer = io.BytesIO()
        self._writer: pq.ParquetWriter | None = None

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows; a file that is full is written."""
        for row in rows:
            size = sum(len(image["bytes"] or b"") for image in row["images"])
            if self._group and (
                len(self._group) == GROUP_ROWS or self._group_bytes + size > GROUP_BYTES
            ):
                self._write_group()
            if self._num_rows + len(self._group) >= FILE_ROWS:
                self._write_file()
            self._group.append(row)
            self._group_bytes += size

    def close(self) -> None:
        """Writes the rows that are left."""
        if self._group or self._writer is not None:
            self._write_file()

    def _write_group(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._buffer,
                self._schema,
                compression="zstd",
                dictionary_pagesize_limit=GROUP_BYTES,
            )
        self._writer.write_table(pa.Table.from_pylist(self._group, self._schema))
        self._num_rows += len(self._group)
        self._group, self._group_bytes = [], 0
        if self._buffer.tell() >= FILE_BYTES:
            self._write_file()

    def _write_file(self) -> None:
        if self._group:
            self._write_group()
        if self._writer is None:
            return
        self._writer.close()
        self._target.write(f"{PARTS}/part-{self.num_files:05d}.parquet", self._buffer.getvalue())
        self.num_files += 1
        self._writer, self._buffer, self._num_rows = None, io.BytesIO(), 0
