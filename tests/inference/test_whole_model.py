"""A checkpoint that lacks a part of its model, or scales its weights, is refused when it loads."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from c3l_ray.errors import PreflightError
from c3l_ray.inference.scoring_model import ScoringModel
from c3l_ray.inference.whole_model import check_whole, load_whole_model
from c3l_ray.model_config import ScorerModel
from c3l_ray.scenes import world
from c3l_ray.train.learning.loading import load_learner
from c3l_ray.train.training_config import ModelToTune, TrainConfig
from tests.families.checkpoints import FAMILIES, write_checkpoint
from tests.train.learning.builders import CPU

Weights = dict[str, Tensor]
PROJECTOR = "multi_modal_projector"


def change_weights(folder: Path, change: Callable[[Weights], Weights]) -> Path:
    """A copy of the shipped model with other weights in its file."""
    shutil.copytree(world.LLAVA, folder)
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return folder


def drop_projector(weights: Weights) -> Weights:
    kept = {name: weight for name, weight in weights.items() if PROJECTOR not in name}
    assert len(weights) - len(kept) == 4
    return kept


def quantize(weights: Weights) -> Weights:
    """As ModelOpt and others do: eight bits, and the scale of each matrix beside it."""
    quantized: Weights = {}
    for name, weight in weights.items():
        if "_proj." not in name or weight.ndim < 2:
            quantized[name] = weight
            continue
        scale = weight.float().abs().max() / 448
        quantized[name] = (weight.float() / scale).to(torch.float8_e4m3fn)
        quantized[f"{name}_scale"] = scale
        quantized[name.replace("weight", "input_scale")] = torch.tensor(1.0)
    assert len(quantized) > len(weights)
    return quantized


def widen_head(weights: Weights) -> Weights:
    (name,) = (name for name in weights if name.endswith("lm_head.weight"))
    return {**weights, name: torch.cat([weights[name], weights[name][:2]])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            drop_projector,
            r"lacks weights of the model, which would be random: "
            rf"\S*{PROJECTOR}\.linear_1\.bias, \S*linear_1\.weight, \S*linear_2\.bias and 1 more\. "
            "Name a checkpoint with all weights",
        ),
        (
            quantize,
            r"is quantized, which its config does not say: the model has no place for "
            r"\S*_proj\.input_scale, .* more\. Name the unquantized checkpoint",
        ),
        (widen_head, r"have other shapes than its config says: lm_head\.weight \(\(\d+, \d+\) in"),
    ],
)
def test_what_does_not_fit_the_model_is_named(
    tmp_path: Path, change: Callable[[Weights], Weights], message: str
) -> None:
    folder = str(change_weights(tmp_path / "llava", change))
    with pytest.raises(PreflightError, match=message):
        ScoringModel(ScorerModel(dtype="bfloat16"), folder)
    config = TrainConfig(input=(), output="", model=ModelToTune(name=folder))
    with pytest.raises(PreflightError, match=message):
        load_learner(config, torch.float32, CPU)


def test_weights_that_the_model_has_no_use_for_do_not_matter(tmp_path: Path) -> None:
    """CLIP's temperature, and the buffers of older versions of transformers."""
    more = {
        "model.vision_tower.logit_scale": torch.tensor(4.6),
        "model.language_model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2),
        "mtp.layers.0.weight": torch.ones(2, 2),
    }
    folder = str(change_weights(tmp_path / "llava", lambda weights: {**weights, **more}))
    loaded, shipped = load_whole_model(folder, folder), load_whole_model("", str(world.LLAVA))
    for name, weight in shipped.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight)


@pytest.mark.parametrize("name", ["LLaVA-1.5", "Qwen2.5-VL", "SmolVLM", "Gemma 3"])
def test_tied_weights_are_not_missed(tmp_path: Path, name: str) -> None:
    (family,) = [family for family in FAMILIES if family.name == name]
    folder = write_checkpoint(family, tmp_path / "model")
    names = load_file(folder / "model.safetensors")
    model = load_whole_model(name, str(folder))
    assert model.config.model_type == family.model_type
    if name == "Gemma 3":
        assert "lm_head.weight" not in names and "lm_head.weight" in model.state_dict()


@pytest.mark.parametrize(
    ("key", "is_refused"),
    [
        ("model.layers.0.mlp.gate_proj.weight_scale_inv", True),
        ("model.layers.0.mlp.gate_proj.weight_scale_2", True),
        ("model.layers.0.mlp.gate_proj.qweight", True),
        ("model.layers.0.mlp.gate_proj.qzeros", True),
        ("model.layers.0.mlp.gate_proj.scales", True),
        ("model.layers.0.mlp.gate_proj.weight_zero_point", True),
        ("model.layers.0.mlp.gate_proj.weight_packed", True),
        ("model.layers.0.mlp.gate_proj.weight.quant_state.bitsandbytes__nf4", True),
        ("model.layers.0.mlp.gate_proj.weight.absmax", True),
        ("model.vision_tower.logit_scale", False),
        ("model.layers.0.upscaler.weight", False),
        ("model.grayscale_embedding.weight", False),
    ],
)
def test_what_quantizations_leave_is_told_by_its_name(key: str, is_refused: bool) -> None:
    loading = {"unexpected_keys": {key}, "missing_keys": set(), "mismatched_keys": set()}
    if not is_refused:
        return check_whole("m", loading)
    with pytest.raises(PreflightError, match="is quantized, which its config does not say"):
        check_whole("m", loading)
