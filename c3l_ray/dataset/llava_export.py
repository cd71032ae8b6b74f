"""LLaVA's conversation format: llava_json.json, and the images that it names."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
from PIL import Image

from c3l_ray.runs.folder import Output
from c3l_ray.inputs.formats import llava_json
from c3l_ray.images import FORMATS

EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif"}  # others are named as their format


class Llava:
    """Gathers records into `llava_json.json`, and writes `images/` as it goes.

    An image's bytes are copied as they are. Where the records were written without images, a sample
    names the image as the LLaVA sample did that it comes from, else by its shard and key.

    Args:
        target: the dataset's folder.
        group: "turn" for a sample of each turn, "image" for one of all the turns of an image.
    """

    def __init__(self, target: Output, group: str = "turn") -> None:
        self.target = target
        self.group = group
        self.samples: list[dict[str, Any]] = []

    def add(self, records: pa.Table) -> None:
        columns = ["image_id", "source", "key", "image", "meta", "turns"]
        rows = records.select(columns).to_pylist()
        with ThreadPoolExecutor(16) as writers:
            names = list(writers.map(self._write_image, rows))
        for row, name in zip(rows, names, strict=True):
            turns = row["turns"]
            for group in [turns] if self.group == "image" else [[turn] for turn in turns]:
                self.samples.append(sample(f"{row['image_id']}-{len(self.samples)}", name, group))

    def close(self) -> None:
        self.target.write_json("llava.json", self.samples)

    def _write_image(self, row: dict[str, Any]) -> str:
        if row["image"] is None:
            return _named(row["meta"]) or f"{row['source']}/{row['key']}"
        with Image.open(io.BytesIO(row["image"]), formats=FORMATS) as opened:
            format_ = str(opened.format)
        extension = EXTENSIONS.get(format_, format_.lower())
        name = f"images/{row['image_id']}.{extension}"
        self.target.put(name, row["image"])
        return name


def sample(name: str, image: str, turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Turns as a LLaVA sample, with the image before the first."""
    conversations: list[dict[str, str]] = []
    for turn in turns:
        marker = "" if conversations else "<image>\n"
        conversations += [
            {"from": "human", "value": f"{marker}{turn['question']}"},
            {"from": "gpt", "value": turn["answer"]},
        ]
    return {"id": name, "image": image, "conversations": conversations}


def _named(meta: str | None) -> str | None:
    """The image that a LLaVA sample names, where the meta is one."""
    try:
        sample = json.loads(meta or "")
    except ValueError:
        return None
    names = llava_json.images(sample) if isinstance(sample, dict) else []
    return names[0] if len(names) == 1 and isinstance(names[0], str) else None
