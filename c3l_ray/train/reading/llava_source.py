"""A LLaVA dataset as training reads it: rows of its lists of samples, as if they were records.

Its files are the units that `jobs.score` would make records of, with the same ids; an address holds
all that reading a unit takes.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from c3l_ray import storage
from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.formats import llava_json
from c3l_ray.inputs.layout import TurnsLayout
from c3l_ray.inputs.read import image_id_of, index_shard
from c3l_ray.inputs.units import Sample, Unit
from c3l_ray.schema import Record
from c3l_ray.storage import Location


def is_llava_json(paths: Sequence[str]) -> bool:
    """Whether these are LLaVA's lists, by their names."""
    return all(path.endswith(llava_json.ENDINGS) for path in paths)


class LlavaSource:
    """A LLaVA dataset.

    Args:
        inputs: files and globs of .json or .jsonl.
        layout: where their images are, and which turns follow others.

    Raises:
        PreflightError: an input does not exist, cannot be read, or its images are not there.
    """

    origin = ""  # no run made it

    def __init__(self, inputs: tuple[str, ...], layout: TurnsLayout) -> None:
        root = layout.image_root
        if root is not None and Path(root).is_dir():  # reading tasks have another working folder
            layout = dataclasses.replace(layout, image_root=str(Path(root).absolute()))
        self.layout = layout
        self.shards = find_shards(inputs, layout)

    def digests(self) -> list[str]:
        """The source and a digest of the content of each list."""
        digests = []
        for shard in self.shards:
            location = Location.connect(shard.path)
            try:
                with location.open() as file:
                    digest = hashlib.file_digest(file, "blake2b").hexdigest()[:32]  # type: ignore[arg-type]
            except storage.ERRORS as error:
                raise PreflightError(
                    f"--input {location.address}: cannot be read: {error}"
                ) from error
            digests.append(f"{shard.source} {digest}")
        return digests

    def texts(self) -> Iterator[tuple[str, list[Record]]]:
        """The addresses of the units, and the rows of each without their images.

        Raises:
            PreflightError: a list cannot be read, or not to its end.
        """
        for shard in self.shards:
            address = Location.connect(shard.path).address
            try:
                units = index_shard(shard, self.layout)
            except storage.ERRORS as error:
                raise PreflightError(f"--input {address}: cannot be read: {error}") from error
            for unit in units:
                if unit.damage is not None:
                    raise PreflightError(f"--input {address}: damaged at {unit.damage}")
                records = self._read_unit(unit, with_images=False)
                for record in records:
                    if (record["error"] or "").startswith(llava_json.DAMAGED_SAMPLE):
                        raise PreflightError(f"--input {address}: {record['error']}")
                yield json.dumps(dataclasses.asdict(unit)), records

    def read(self, address: str, rows: Sequence[int]) -> list[Record]:
        """Rows of a unit by its address and their numbers, with their images.

        An image that is not there is None.

        Raises:
            C3LError: the list or an image cannot be read.
        """
        unit = Unit(**json.loads(address))
        try:
            return self._read_unit(unit, list(rows))
        except storage.ERRORS as error:
            raise C3LError(f"{unit.path} or its images cannot be read: {error}") from error

    def _read_unit(
        self, unit: Unit, rows: list[int] | None = None, *, with_images: bool = True
    ) -> list[Record]:
        location = Location.connect(unit.path)
        samples = llava_json.read_samples(
            location, unit, self.layout, rows, with_images=with_images
        )
        numbers = range(unit.rows) if rows is None else rows
        return [
            _make_record(unit, row, sample) for row, sample in zip(numbers, samples, strict=True)
        ]


def _make_record(unit: Unit, row: int, sample: Sample) -> Record:
    """A sample as the record that scoring would make of it, without its scores."""
    return {
        "image_id": image_id_of(unit, row, sample),
        "key": sample.key,
        "source": unit.source,
        "image": sample.image,
        "caption": sample.caption,
        "meta": sample.meta,
        "turns": sample.turns or [],
        "status": "ok" if sample.error is None else "failed",
        "error": sample.error,
        "origin": LlavaSource.origin,
    }
