"""Which weights of a model learn."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlavaConfig

from c3l_ray.errors import PreflightError
from c3l_ray.scenes import world
from c3l_ray.train.learning.loading import (
    checkpoints_activations,
    describe_lora_reach,
    find_adapter,
    load_learner,
    trainable_parameters,
)
from c3l_ray.train.training_config import ModelToTune
from tests.families.checkpoints import FAMILIES, write_checkpoint
from tests.train.learning.builders import CPU, encode_scenes, measure_kept_bytes
from tests.train.records import MakeTrainConfig


@pytest.mark.parametrize(
    ("tune", "learns", "rests"),
    [
        ("lora", "lora_A", ("vision_tower", "multi_modal_projector", "lm_head", "base_layer")),
        ("full", "language_model.layers.0", ("vision_tower", "multi_modal_projector")),
        ("adapter", "multi_modal_projector", ("vision_tower", "language_model", "lm_head")),
    ],
)
def test_only_the_chosen_weights_learn(
    train_config: MakeTrainConfig, tune: Any, learns: str, rests: tuple[str, ...]
) -> None:
    config = train_config(model=ModelToTune(name=str(world.LLAVA), tune=tune))
    learner = load_learner(config, torch.float32, CPU)
    names = [name for name, _ in trainable_parameters(learner)]
    assert any(learns in name for name in names) and "affine.weight" in names
    assert not any(rest in name for name in names for rest in rests)


@pytest.mark.parametrize("tune", ["lora", "full", "adapter"])
def test_computing_activations_twice_changes_no_gradient(
    train_config: MakeTrainConfig, tune: Any
) -> None:
    gradients, kept_bytes = [], []
    for choice in ("off", "on"):
        model = ModelToTune(name=str(world.LLAVA), tune=tune, activation_checkpointing=choice)
        config = train_config(model=model)
        learner = load_learner(config, torch.float32, CPU).train()
        micro_batch = encode_scenes(config, 0)
        learner(micro_batch)  # the first proves the output head
        with measure_kept_bytes() as kept:
            loss = learner(micro_batch)["loss"]
        kept_bytes.append(kept.total)
        loss.backward()
        gradients.append([parameter.grad for _, parameter in trainable_parameters(learner)])
    for once, again in zip(*gradients, strict=True):
        assert once is not None and again is not None and torch.allclose(once, again, atol=1e-6)
    assert kept_bytes[1] < 0.4 * kept_bytes[0]


@pytest.mark.parametrize(
    ("choice", "device", "expected"),
    [("auto", "cuda", True), ("auto", "cpu", False), ("on", "cpu", True), ("off", "cuda", False)],
)
def test_activations_are_computed_twice_on_gpus(
    train_config: MakeTrainConfig, choice: Any, device: str, expected: bool
) -> None:
    model = ModelToTune(name=str(world.LLAVA), activation_checkpointing=choice)
    assert checkpoints_activations(train_config(model=model), torch.device(device)) == expected


@pytest.mark.parametrize("tune", ["lora", "full", "adapter"])
def test_what_learns_is_float32_and_the_rest_as_it_is_computed(
    train_config: MakeTrainConfig, tune: Any
) -> None:
    config = train_config(model=ModelToTune(name=str(world.LLAVA), tune=tune))
    learner = load_learner(config, torch.bfloat16, CPU)
    dtypes: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    for weight in learner.parameters():
        dtypes[weight.requires_grad].add(weight.dtype)
    frozen = torch.float32 if tune == "full" else torch.bfloat16
    assert dtypes == {True: {torch.float32}, False: {frozen}}


@pytest.mark.parametrize("name", ["SmolVLM", "Gemma 3"])
@pytest.mark.parametrize("tune", ["lora", "full"])
def test_families_learn_in_bfloat16(
    train_config: MakeTrainConfig, tmp_path: Path, name: str, tune: Any
) -> None:
    (family,) = [family for family in FAMILIES if family.name == name]
    folder = str(write_checkpoint(family, tmp_path / "model"))
    losses = []
    for precision in (torch.float32, torch.bfloat16):
        config = train_config(model=ModelToTune(name=folder, tune=tune))
        learner = load_learner(config, precision, CPU).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = learner(encode_scenes(config, 0))["loss"]
        loss.backward()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_model_without_an_adapter_of_a_known_name_is_refused() -> None:
    with pytest.raises(PreflightError, match="NAME: no vision adapter"):
        find_adapter(torch.nn.Sequential(torch.nn.Linear(2, 2)), "NAME")


def test_what_lora_does_not_reach_is_told(train_config: MakeTrainConfig, tmp_path: Path) -> None:
    """A mixture of experts holds most weights as parameters that are no linear layers."""
    config = train_config()
    assert describe_lora_reach(config) == []
    text = {
        "model_type": "qwen3_moe",
        "hidden_size": 32,
        "intermediate_size": 64,
        "moe_intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "vocab_size": 99,
    }
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    LlavaConfig(vision_config=vision, text_config=text).save_pretrained(tmp_path)
    experts = train_config(model=ModelToTune(name=str(tmp_path)))
    (note,) = describe_lora_reach(experts)
    assert note.startswith("LoRA reaches 8% of the weights of the language half")
    full = train_config(model=ModelToTune(name=str(tmp_path), tune="full"))
    assert describe_lora_reach(full) == []
