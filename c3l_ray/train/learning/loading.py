"""A run's learner: loaded, with gradients for the weights that learn, and shared by its workers."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from c3l_ray.errors import PreflightError
from c3l_ray.inference.logit_transform import restore_logit_transform
from c3l_ray.model_files import resolve_model
from c3l_ray.train.learning.learner import Learner
from c3l_ray.train.training_config import TrainConfig

ADAPTERS = (
    "multi_modal_projector",  # LLaVA's, and of most others
    "merger",  # of Qwen-VL, GLM-V and MiniCPM-V
    "connector",  # of Idefics3 and SmolVLM
    "embed_vision",  # of Gemma 4 and Gemma 3n
    "layerwise_projectors",  # of Granite 4 Vision, both
    "spatial_projectors",
)


def load_learner(config: TrainConfig, dtype: torch.dtype, device: torch.device) -> Learner:
    """The learner of a run, on its device, with gradients where the config wants them.

    Raises:
        PreflightError: the model has no adapter of a known name, or no language half to tune.
    """
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(config.optim.seed)
    # What learns is float32; what does not is held as it is computed. FSDP wants one type for all.
    all_float32 = config.tune_mode == "full" or config.workers.sharding == "fsdp"
    model: Any = AutoModelForImageTextToText.from_pretrained(
        resolve_model(config.model.name), dtype=torch.float32 if all_float32 else dtype
    )
    restore_logit_transform(model)
    model.requires_grad_(False)
    image_token = model.config.image_token_id
    if config.tune_mode == "lora":
        model = _add_lora(model, config)
    elif config.tune_mode == "full":
        model.get_decoder().requires_grad_(True)
        model.get_output_embeddings().requires_grad_(True)
    else:
        find_adapter(model, config.model.name).float().requires_grad_(True)
    if config.model.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return Learner(model, config, image_token).to(device)


def find_adapter(model: nn.Module, name: str) -> nn.Module:
    """The module between the vision tower and the language model, or a list of several.

    Raises:
        PreflightError: there is none of a known name.
    """
    found = [
        module for path, module in model.named_modules() if path.rpartition(".")[2] in ADAPTERS
    ]
    if not found:
        raise PreflightError(
            f"--model.name {name}: no vision adapter was found in it; known names are "
            + ", ".join(ADAPTERS)
        )
    return found[0] if len(found) == 1 else nn.ModuleList(found)


def _add_lora(model: Any, config: TrainConfig) -> Any:
    """The model with LoRA on every linear layer of its language half, and nothing else learning."""
    from peft import LoraConfig, get_peft_model

    decoder = model.get_decoder()
    decoder_ids = {id(module) for module in decoder.modules()}
    targets = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) in decoder_ids
    ]
    if not targets:
        raise PreflightError(f"--model.name {config.model.name}: found no linear layers to tune")
    lora = LoraConfig(
        r=config.model.lora_rank,
        lora_alpha=config.model.lora_alpha,  # type: ignore[arg-type]  # fractions work too
        lora_dropout=config.model.lora_dropout,
        target_modules=targets,
    )
    return get_peft_model(model, lora)


def distribute(learner: Learner, config: TrainConfig, dtype: torch.dtype) -> nn.Module:
    """The learner as its workers compute it together."""
    if config.workers.sharding == "fsdp":
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        policy = MixedPrecisionPolicy(
            param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        for block in _blocks(learner.model):
            fully_shard(block, mp_policy=policy)
        fully_shard(learner, mp_policy=policy)
        return learner
    if dist.is_initialized() and dist.get_world_size() > 1:
        return nn.parallel.DistributedDataParallel(learner)
    return learner


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The layers that FSDP gathers one at a time: members of lists, but not lists inside them."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _blocks(child)


def trainable_parameters(learner: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and weights of what learns, in a fixed order."""
    return [(name, weight) for name, weight in learner.named_parameters() if weight.requires_grad]
