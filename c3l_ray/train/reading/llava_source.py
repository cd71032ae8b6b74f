"""A LLaVA dataset as training reads it: rows of its lists of samples, as if they were records.

Its parts are the units that `jobs.score` would make records of, with the same ids, named by all
that reading them takes.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from c3l_ray.config import TurnsLayout
from c3l_ray.inputs import read
from c3l_ray import storage
from c3l_ray.inputs.formats import llava_json
from c3l_ray.inputs.units import Unit
from c3l_ray.errors import C3LError, PreflightError


def are(inputs: Sequence[str]) -> bool:
    """Whether these are LLaVA's lists, by their names."""
    return all(name.endswith(llava_json.ENDINGS) for name in inputs)


class Conversations:
    """A LLaVA dataset.

    Args:
        inputs: files and globs of .json or .jsonl.
        layout: where their images are, and which turns follow others.

    Raises:
        PreflightError: an input does not exist, cannot be read, or its images are not there.
    """

    def __init__(self, inputs: tuple[str, ...], layout: TurnsLayout) -> None:
        root = layout.image_root
        if root is not None and Path(root).is_dir():  # those who read stand in other folders
            layout = dataclasses.replace(layout, image_root=str(Path(root).absolute()))
        self.layout = layout
        self.shards = read.find_shards(inputs, layout)

    def digests(self) -> list[str]:
        """Of the lists' contents and the sources they are read as."""
        found = []
        for shard in self.shards:
            fs, path = storage.connect("--input", shard.path)
            try:
                with fs.open(path, "rb") as file:
                    digest = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
            except storage.ERRORS as error:
                raise PreflightError(f"--input {shard.path}: cannot be read: {error}") from error
            found.append(f"{shard.source} {digest}")
        return found

    def scanned(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """The names of the parts, and the rows of each without their images.

        Raises:
            PreflightError: a list cannot be read, or not to its end.
        """
        for shard in self.shards:
            try:
                units = read.index(shard, self.layout)
            except storage.ERRORS as error:
                raise PreflightError(f"--input {shard.path}: cannot be read: {error}") from error
            for unit in units:
                if unit.damage is not None:
                    raise PreflightError(f"--input {shard.path}: damaged at {unit.damage}")
                yield json.dumps(dataclasses.asdict(unit)), self._rows(unit, with_images=False)

    def read(self, name: str, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Rows of a part by its name and their numbers, with their images.

        Raises:
            C3LError: the list or an image cannot be read; one that is not there is none.
        """
        unit = Unit(**json.loads(name))
        try:
            return self._rows(unit, list(rows))
        except storage.ERRORS as error:
            raise C3LError(f"{unit.path} or its images cannot be read: {error}") from error

    def _rows(
        self, unit: Unit, rows: list[int] | None = None, *, with_images: bool = True
    ) -> list[dict[str, Any]]:
        fs, path = storage.connect("--input", unit.path)
        found = llava_json.read(fs, path, unit, self.layout, rows, with_images=with_images)
        return [
            {
                "image_id": read.image_id(unit, row, sample),
                "source": unit.source,
                "image": sample.image,
                "turns": sample.turns,
                "status": "ok" if sample.error is None else "failed",
            }
            for row, sample in zip(range(unit.rows) if rows is None else rows, found, strict=True)
        ]
