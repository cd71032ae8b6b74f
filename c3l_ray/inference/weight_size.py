"""How much memory a model's weights take, read from the heads of its files."""

import json
from math import prod
from pathlib import Path

from c3l_ray.model_config import Dtype
from c3l_ray.model_files import read_weight_shapes, resolve_model

_INDEX, _WHOLE = "model.safetensors.index.json", "model.safetensors"
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def count_weight_bytes(name: str, revision: str | None, dtype: Dtype) -> int | None:
    """The bytes of a model's weights in a precision; None where its files are not on this machine.

    Args:
        name: hub name, path or s3:// folder.
        revision: of a hub name, which is downloaded if it is not there.
        dtype: that the weights are held in; `auto` takes the files' own.
    """
    folder = Path(resolve_model(name, revision))
    files = _find_safetensors(folder)
    if dtype == "auto" or not files:  # other files do not say what they hold before they are read
        files = files or list(folder.glob("*.bin"))
        return sum(file.stat().st_size for file in files) or None
    return sum(map(prod, read_weight_shapes(files).values())) * _BYTES[dtype]


def _find_safetensors(folder: Path) -> list[Path]:
    """The files that transformers reads of a folder."""
    index = folder / _INDEX
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return [folder / name for name in names]
    return [folder / _WHOLE] if (folder / _WHOLE).is_file() else []
