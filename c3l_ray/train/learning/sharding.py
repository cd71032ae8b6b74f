"""A learner as its workers hold it: each the whole, or each a share that it alone reads."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load

from c3l_ray.model_files import find_model_folder, resolve_model
from c3l_ray.train.learning.export import match_weight_names
from c3l_ray.train.learning.learner import Learner
from c3l_ray.train.learning.loading import draw_added_weights, load_learner, make_learner
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.train.tuning_config import ModelName


def load_distributed(
    config: TrainConfig, dtype: torch.dtype, device: torch.device
) -> tuple[Learner, nn.Module]:
    """The learner of a run, and that learner as its workers compute it together.

    All workers call this together.

    Raises:
        PreflightError: as `loading.load_learner`, and as `export.match_weight_names`.
    """
    if config.workers.sharding == "fsdp":
        learner = load_sharded_learner(config, dtype, device)
        return learner, learner
    learner = load_learner(config, dtype, device)
    if dist.is_initialized() and dist.get_world_size() > 1:
        return learner, nn.parallel.DistributedDataParallel(learner)
    return learner, learner


def load_sharded_learner(config: TrainConfig, dtype: torch.dtype, device: torch.device) -> Learner:
    """The learner of a run, of whose weights each worker reads and holds its share.

    No worker ever holds the whole, neither on its device nor in its host's memory.

    Raises:
        PreflightError: as `load_distributed`.
    """
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForImageTextToText

    # Weights have a shape and no memory; buffers, which few checkpoints hold, have their values.
    with init_empty_weights(include_buffers=False):
        vlm_config = AutoConfig.from_pretrained(
            resolve_model(config.model.name, config.model.revision)
        )
        vlm: Any = AutoModelForImageTextToText.from_config(vlm_config)
    vlm.tie_weights()
    shapes = {name: list(weight.shape) for name, weight in vlm.named_parameters()}
    with init_empty_weights(include_buffers=False):
        learner = make_learner(vlm, config, dtype, device)
    buffers = {name: buffer.to(device) for name, buffer in learner.named_buffers()}
    _shard(learner, dtype)
    learner.to_empty(device=device)
    for name, buffer in learner.named_buffers():
        buffer.copy_(buffers[name])
    vlm.tie_weights()
    _read_weights(vlm, config.model, shapes)
    draw_added_weights(learner, config)
    return learner


def _shard(learner: Learner, dtype: torch.dtype) -> None:
    """Shares the weights among the workers: a group a layer, one of the loss, one of all else.

    A group is gathered in the type of the computation; weights that learn stay float32.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for layer in _find_layers(learner.model):
        fully_shard(layer, mp_policy=policy)
    for part in learner.float32_parts():
        fully_shard(part)
    fully_shard(learner, mp_policy=policy)


def _find_layers(module: nn.Module) -> Iterator[nn.Module]:
    """The layers that are gathered one at a time: members of lists, but not lists inside them."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _find_layers(child)


@torch.no_grad()
def _read_weights(vlm: Any, model: ModelName, shapes: dict[str, list[int]]) -> None:
    """Reads this worker's shares from the checkpoint's files.

    Args:
        vlm: the model of transformers, perhaps with LoRA in it.
        model: that is tuned.
        shapes: of its weights, by their names without LoRA.
    """
    original_names = match_weight_names(shapes, model.name, model.revision)
    state: dict[str, Tensor] = {}
    for path, weight in vlm.named_parameters():
        loaded_name = path.replace(".base_layer.", ".")
        if loaded_name in original_names:
            state[original_names[loaded_name]] = weight.detach()
    missing = original_names.keys() - {
        path.replace(".base_layer.", ".") for path, _ in vlm.named_parameters()
    }
    assert not missing, f"weights that would not be read: {sorted(missing)[:3]}"
    folder = find_model_folder(model.name, model.revision)
    load(state, storage_reader=HuggingFaceStorageReader(str(folder)))
