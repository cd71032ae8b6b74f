"""LLaVA's conversation format: llava.json, and the images that it names."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from c3l_ray.images import read_format
from c3l_ray.inputs.formats import llava_json
from c3l_ray.inputs.units import digest_text, is_digest
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import Record, Turn

EXTENSIONS = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "TIFF": "tif",
    "JPEG2000": "jp2",
}  # others are named as their format


class LlavaWriter:
    """Gathers records into `llava.json`, and writes `images/` as it goes.

    An image's bytes are copied as they are, to a file of its id; images that share an id get files
    of their own. Where the records were written without images, a sample names the image as the
    LLaVA sample did that it comes from, else by its shard and key.

    Args:
        target: the dataset's folder.
        group: "turn" for a sample of each turn, "image" for one of all the turns of an image.
    """

    def __init__(self, target: RunFolder, group: str = "turn") -> None:
        self.target = target
        self.group = group
        self.samples: list[dict[str, Any]] = []
        self._num_images_of: Counter[str] = Counter()  # by stem of their files

    def add(self, table: pa.Table) -> None:
        """Adds the records of a table: their images are written, their samples kept."""
        columns = ["image_id", "source", "key", "image", "meta", "turns"]
        records: list[Record] = table.select(columns).to_pylist()
        stems = [self._make_stem(record["image_id"]) for record in records]
        with ThreadPoolExecutor(16) as writers:
            image_names = list(writers.map(self._write_image, records, stems))
        for record, image_name in zip(records, image_names, strict=True):
            turns = record["turns"]
            for group in [turns] if self.group == "image" else [[turn] for turn in turns]:
                sample_id = f"{record['image_id']}-{len(self.samples)}"
                self.samples.append(make_sample(sample_id, image_name, group))

    def close(self) -> None:
        """Writes llava.json."""
        self.target.write_json("llava.json", self.samples)

    def _make_stem(self, image_id: str) -> str:
        """A file name for an image, whatever its id holds, that no other image has."""
        stem = image_id if is_digest(image_id) else digest_text(image_id)
        self._num_images_of[stem] += 1
        repeat = self._num_images_of[stem] - 1
        return f"{stem}-{repeat}" if repeat else stem

    def _write_image(self, record: Record, stem: str) -> str:
        if record["image"] is None:
            image_name = llava_json.find_image_name(record["meta"])
            return image_name or f"{record['source']}/{record['key']}"
        format_ = read_format(record["image"])
        extension = EXTENSIONS.get(format_, format_.lower())
        name = f"images/{stem}.{extension}"
        self.target.write(name, record["image"])
        return name


def make_sample(sample_id: str, image_name: str, turns: Sequence[Turn]) -> dict[str, Any]:
    """Turns as a LLaVA sample, with the image before the first."""
    conversations: list[dict[str, str | None]] = []
    for turn in turns:
        marker = "" if conversations else "<image>\n"
        conversations += [
            {"from": "human", "value": f"{marker}{turn['question']}"},
            {"from": "gpt", "value": turn["answer"]},
        ]
    return {"id": sample_id, "image": image_name, "conversations": conversations}
