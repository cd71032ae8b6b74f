"""The bytes of a model's weights, as its files say and as torch holds them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from c3l_ray.inference.weight_size import count_weight_bytes
from c3l_ray.model_config import Dtype
from c3l_ray.scenes import world


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_bytes_are_those_of_the_loaded_model(dtype: Dtype) -> None:
    model = AutoModelForImageTextToText.from_pretrained(world.LLAVA, dtype=dtype)
    held = sum(weight.nbytes for weight in model.parameters())
    assert count_weight_bytes(str(world.LLAVA), None, dtype) == held


def test_files_of_several_parts_count_once_and_others_not(tmp_path: Path) -> None:
    weights = {f"w{i}": torch.zeros(100, 10, dtype=torch.bfloat16) for i in range(4)}
    first, second = dict(list(weights.items())[:1]), dict(list(weights.items())[1:])
    save_file(first, tmp_path / "model-00001-of-00002.safetensors")
    save_file(second, tmp_path / "model-00002-of-00002.safetensors")
    save_file(weights, tmp_path / "consolidated.safetensors")
    parts = {name: "model-00001-of-00002.safetensors" for name in first}
    parts |= {name: "model-00002-of-00002.safetensors" for name in second}
    index = str(parts).replace("'", '"')
    (tmp_path / "model.safetensors.index.json").write_text(f'{{"weight_map": {index}}}')
    assert count_weight_bytes(str(tmp_path), None, "bfloat16") == 8_000
    assert count_weight_bytes(str(tmp_path), None, "float32") == 16_000
    size = sum((tmp_path / name).stat().st_size for name in set(parts.values()))
    assert count_weight_bytes(str(tmp_path), None, "auto") == size


def test_other_files_count_as_they_lie_and_an_absent_model_is_unknown(tmp_path: Path) -> None:
    torch.save(load_file(world.LLAVA / "model.safetensors"), tmp_path / "pytorch_model.bin")
    size = (tmp_path / "pytorch_model.bin").stat().st_size
    assert count_weight_bytes(str(tmp_path), None, "float32") == size
    assert count_weight_bytes("owner/name", None, "bfloat16") is None
