"""LLaVA's conversation format: one JSON list of samples, and the images that they name.

A sample travels whole in `meta`, its conversation included. Nothing of it is asked or scored here.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from c3l_ray.config import Layout
from c3l_ray.data import storage
from c3l_ray.data.units import End, Place, Sample, Shard, Unit

_GAPS = " \t\r\n,"


def walk(fs: Any, path: str, shard: Shard, layout: Layout) -> Iterator[Place | End]:
    """The samples of the list, placed by bytes, then its end."""
    offset = 0
    try:
        text = fs.cat_file(path).decode()
        at = text.index("[") + 1
        offset = len(text[:at].encode())
        decoder = json.JSONDecoder()
        while True:
            gap = len(text) - at - len(text[at:].lstrip(_GAPS)) if text[at : at + 1] in _GAPS else 0
            offset, at = offset + gap, at + gap
            if text[at : at + 1] == "]":
                break
            sample, end = decoder.raw_decode(text, at)
            yield Place(key=str(sample["id"]), start=offset, position=0)
            offset, at = offset + len(text[at:end].encode()), end
    except (ValueError, KeyError, TypeError) as error:
        why = f"byte {offset}: not a list of samples with an id: {error}"
        yield End(end=offset, position=0, damage=why)
    else:
        yield End(end=offset, position=0)


def read(fs: Any, path: str, unit: Unit, layout: Layout) -> Iterator[Sample]:
    """The samples of a unit's bytes, with their images."""
    if unit.end == unit.start:
        return
    text = fs.cat_file(path, start=unit.start, end=unit.end).decode()
    samples = json.loads(f"[{text.strip(_GAPS)}]")
    root_fs, root = fs, path.rpartition("/")[0]
    if layout.image_root is not None:
        root_fs, root = storage.connect("--layout.image-root", layout.image_root)

    def with_image(sample: dict[str, Any]) -> Sample:
        image, error, name = None, None, sample.get("image")
        if not isinstance(name, str):
            error = "no_image: the sample names no image"
        elif name.startswith("/") or ".." in name.split("/"):
            error = f"no_image: {name} leads out of the images' folder"
        else:
            try:
                image = root_fs.cat_file(f"{root}/{name}")
            except (FileNotFoundError, PermissionError) as failed:
                error = f"unreadable: {name}: {type(failed).__name__}"
        meta = json.dumps(sample, ensure_ascii=False)
        return Sample(key=str(sample["id"]), image=image, meta=meta, error=error)

    with ThreadPoolExecutor(16) as readers:
        yield from readers.map(with_image, samples)
