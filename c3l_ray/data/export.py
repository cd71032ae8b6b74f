"""LLaVA's conversation format: llava.json, and the images that it names."""

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
from PIL import Image

from c3l_ray.data.commit import Output
from c3l_ray.images import FORMATS

EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}  # others are named as their format


class Llava:
    """Gathers records into `llava.json`, one sample a turn, and writes `images/` as it goes.

    An image's bytes are copied as they are. Where the records were written without images, a sample
    names the image by its shard and key instead.
    """

    def __init__(self, target: Output) -> None:
        self.target = target
        self.samples: list[dict[str, Any]] = []

    def add(self, records: pa.Table) -> None:
        rows = records.select(["image_id", "source", "key", "image", "turns"]).to_pylist()
        with ThreadPoolExecutor(16) as writers:
            names = list(writers.map(self._write_image, rows))
        for row, name in zip(rows, names, strict=True):
            for turn in row["turns"]:
                self.samples.append(sample(f"{row['image_id']}-{len(self.samples)}", name, turn))

    def close(self) -> None:
        self.target.write_json("llava.json", self.samples)

    def _write_image(self, row: dict[str, Any]) -> str:
        if row["image"] is None:
            return f"{row['source']}/{row['key']}"
        with Image.open(io.BytesIO(row["image"]), formats=FORMATS) as opened:
            format_ = str(opened.format)
        extension = EXTENSIONS.get(format_, format_.lower())
        name = f"images/{row['image_id']}.{extension}"
        self.target.put(name, row["image"])
        return name


def sample(name: str, image: str, turn: dict[str, Any]) -> dict[str, Any]:
    """One turn as a LLaVA sample of one question and one answer."""
    return {
        "id": name,
        "image": image,
        "conversations": [
            {"from": "human", "value": f"<image>\n{turn['question']}"},
            {"from": "gpt", "value": turn["answer"]},
        ],
    }
