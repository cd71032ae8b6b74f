"""A run's learner: loaded, with gradients for the weights that learn."""

import math
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from c3l_ray.errors import PreflightError
from c3l_ray.inference.logit_transform import restore_logit_transform
from c3l_ray.inference.whole_model import load_whole_model
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
MIN_LORA_REACH = 0.9
"""Share of the language half's weights: of models without experts LoRA reaches nearly all."""


def load_learner(config: TrainConfig, dtype: torch.dtype, device: torch.device) -> Learner:
    """The learner of a run, whole on its device, with gradients where the config wants them.

    What learns is float32. What does not is held as it is computed, but float32 too where the whole
    language half learns: some models put an image's features among embeddings of one type only.

    Raises:
        PreflightError: the model has no adapter of a known name, or no language half to tune, or
            its checkpoint does not have all of its weights.
    """
    # A weight that learns is not rounded first, and LoRA's are added to those of the checkpoint.
    loaded_dtype = dtype if config.tune_mode == "lora" else torch.float32
    name, revision = config.model.name, config.model.revision
    model = load_whole_model(name, resolve_model(name, revision), dtype=loaded_dtype)
    learner = make_learner(model, config, dtype, device).to(device)
    draw_added_weights(learner, config)
    return learner


def make_learner(
    model: Any, config: TrainConfig, dtype: torch.dtype, device: torch.device
) -> Learner:
    """The learner of a model of transformers, where that is.

    Raises:
        PreflightError: as `load_learner`.
    """
    restore_logit_transform(model)
    image_token = model.config.image_token_id
    model = add_gradients(model, config)
    frozen_dtype = torch.float32 if config.tune_mode == "full" else dtype
    for weight in model.parameters():
        weight.data = weight.data.to(torch.float32 if weight.requires_grad else frozen_dtype)
    if checkpoints_activations(config, device):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return Learner(model, config, image_token)


def add_gradients(model: Any, config: TrainConfig) -> Any:
    """The model with gradients for what a run tunes of it, with LoRA where that is added.

    Raises:
        PreflightError: as `load_learner`.
    """
    model.requires_grad_(False)
    if config.tune_mode == "lora":
        return _add_lora(model, config)
    if config.tune_mode == "full":
        model.get_decoder().requires_grad_(True)
        model.get_output_embeddings().requires_grad_(True)
    else:
        find_adapter(model, config.model.name).requires_grad_(True)
    return model


@torch.no_grad()
def draw_added_weights(learner: Learner, config: TrainConfig) -> None:
    """Gives the weights that no checkpoint has what they begin with, the same on any worker.

    LoRA's as peft begins them: A uniform, B zero, so that the model is as it came.
    """
    generator = torch.Generator().manual_seed(config.optim.seed)
    for name, weight in learner.named_parameters():
        if ".lora_A." in name:
            drawn = torch.empty(weight.shape)
            nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
        elif ".lora_B." in name:
            drawn = torch.zeros(weight.shape)
        elif not name.startswith("model."):
            drawn = learner.draw_added_weight(name, generator)
        else:
            continue
        if isinstance(weight, DTensor):
            shard = distribute_tensor(
                drawn.to(weight.device), weight.device_mesh, weight.placements
            )
            weight.to_local().copy_(shard.to_local())
        else:
            weight.copy_(drawn)


def checkpoints_activations(config: TrainConfig, device: torch.device) -> bool:
    """Whether each layer's activations are computed again in the backward pass."""
    choice = config.model.activation_checkpointing
    return choice == "on" or (choice == "auto" and device.type == "cuda")


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


def make_weightless_model(name: str, revision: str | None = None) -> Any:
    """A model whose weights have a shape and no memory, made from its config alone."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    with torch.device("meta"):
        config = AutoConfig.from_pretrained(resolve_model(name, revision))
        return AutoModelForImageTextToText.from_config(config)


def describe_lora_reach(config: TrainConfig) -> list[str]:
    """What the user should know of the weights that LoRA does not reach: a sentence, or nothing."""
    if config.tune_mode != "lora":
        return []
    name = config.model.name
    share = measure_lora_reach(make_weightless_model(name, config.model.revision))
    if share >= MIN_LORA_REACH:
        return []
    return [
        f"LoRA reaches {share:.0%} of the weights of the language half of {name}: the others, as "
        "the experts of a mixture, are no linear layers and stay as they are; "
        f"{config.flag('model.tune')} full tunes them too"
    ]


def measure_lora_reach(model: Any) -> float:
    """The share of the language half's weights that are of linear layers, embeddings left out."""
    embedding_ids = {id(weight) for weight in model.get_input_embeddings().parameters()}
    decoder = model.get_decoder()
    weights = [weight for weight in decoder.parameters() if id(weight) not in embedding_ids]
    reached = sum(model.get_submodule(path).weight.numel() for path in _list_lora_targets(model))
    return float(reached / max(1, sum(weight.numel() for weight in weights)))


def _list_lora_targets(model: Any) -> list[str]:
    """The linear layers of a model's language half."""
    decoder_ids = {id(module) for module in model.get_decoder().modules()}
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) in decoder_ids
    ]


def _add_lora(model: Any, config: TrainConfig) -> Any:
    """The model with LoRA on every linear layer of its language half, and nothing else learning."""
    from peft import LoraConfig, get_peft_model

    targets = _list_lora_targets(model)
    if not targets:
        raise PreflightError(f"--model.name {config.model.name}: found no linear layers to tune")
    lora = LoraConfig(
        r=config.model.lora_rank,
        lora_alpha=config.model.lora_alpha,  # type: ignore[arg-type]  # fractions work too
        lora_dropout=config.model.lora_dropout,
        target_modules=targets,
    )
    return get_peft_model(model, lora)


def trainable_parameters(learner: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and weights of what learns, in a fixed order."""
    return [(name, weight) for name, weight in learner.named_parameters() if weight.requires_grad]
