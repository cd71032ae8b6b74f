"""What a model's files say of its quantization, beside its config."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoConfig

from c3l_ray.errors import PreflightError
from c3l_ray.inference.model_check import check_scorable, check_tunable, inspect_model
from c3l_ray.inference.quantization import MODELOPT_FILE, UNKNOWN, find_quantization
from c3l_ray.scenes import world


@pytest.fixture
def llava(tmp_path: Path) -> Path:
    return Path(shutil.copytree(world.LLAVA, tmp_path / "llava-FP8"))


def write_modelopt(folder: Path, algorithm: str | None) -> None:
    """As ModelOpt 0.29 exports it."""
    content = {
        "producer": {"name": "modelopt", "version": "0.29.0"},
        "quantization": {
            "quant_algo": algorithm,
            "kv_cache_quant_algo": "FP8",
            "exclude_modules": ["lm_head"],
        },
    }
    (folder / MODELOPT_FILE).write_text(json.dumps(content))


def test_what_modelopt_says_beside_the_config_counts(llava: Path) -> None:
    write_modelopt(llava, "FP8")
    model = inspect_model("--model.name", str(llava))
    message = rf"is quantized \(FP8\): it generates, but does not score.* such as {llava.parent}"
    with pytest.raises(PreflightError, match=message):
        check_scorable("--model.name", model)
    with pytest.raises(PreflightError, match=r"is quantized \(FP8\) and cannot be tuned"):
        check_tunable("--model.name", str(llava))


def test_a_quantized_cache_of_keys_and_values_leaves_the_weights_whole(llava: Path) -> None:
    write_modelopt(llava, None)
    check_scorable("--model.name", inspect_model("--model.name", str(llava)))
    check_tunable("--model.name", str(llava))


@pytest.mark.parametrize("content", ["{", "[]", '{"quantization": null}'])
def test_a_file_that_says_nothing_readable_is_of_a_quantized_model(
    llava: Path, content: str
) -> None:
    (llava / MODELOPT_FILE).write_text(content)
    config = AutoConfig.from_pretrained(llava)
    assert find_quantization(config, str(llava)) == UNKNOWN
