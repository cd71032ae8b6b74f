"""Batches, gradients and tuned models, for tests of learning."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from c3l_ray.scenes import world
from c3l_ray.train.learning import export
from c3l_ray.train.learning.loading import trainable_parameters
from c3l_ray.train.learning.trainer import Trainer
from c3l_ray.train.reading.batches import MicroBatch
from c3l_ray.train.reading.encode import encode_batch
from c3l_ray.train.training_config import ModelToTune, TrainConfig
from tests.train.records import make_record

CPU = torch.device("cpu")
SHIPPED_MODEL = ModelToTune(name=str(world.LLAVA))


def random_tensor(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass
class KeptBytes:
    """Bytes that are kept for a backward pass: of each storage once, of parameters none."""

    total: int = 0
    storages: dict[int, torch.UntypedStorage] = field(default_factory=dict)


@contextmanager
def measure_kept_bytes(*modules: torch.nn.Module) -> Iterator[KeptBytes]:
    """Inside, counts what autograd keeps; the weights of the modules are not counted."""
    kept = KeptBytes()
    weights = {
        weight.untyped_storage().data_ptr() for module in modules for weight in module.parameters()
    }

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        is_weight = isinstance(tensor, torch.nn.Parameter) or address in weights
        if not is_weight and address not in kept.storages:
            kept.storages[address] = storage  # held, so that no other takes its address
            kept.total += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        yield kept


def encode_scenes(config: TrainConfig, *seeds: int) -> MicroBatch:
    """Scenes in one micro-batch."""
    records = [make_record(seed) for seed in seeds]
    (micro_batch,) = encode_batch(records, config, {}, num_workers=1, accumulation_steps=1)
    return micro_batch


def make_batch(
    config: TrainConfig, step: int, *, rank: int = 0, num_workers: int = 1
) -> list[MicroBatch]:
    """A worker's micro-batches of a batch of scenes."""
    size = config.optim.batch_size
    micro_batches = encode_batch(
        [make_record(step * size + number) for number in range(size)],
        config,
        {},
        num_workers=num_workers,
        accumulation_steps=config.optim.count_accumulation_steps(num_workers),
    )
    return list(micro_batches)[rank::num_workers]


def compute_gradients(trainer: Trainer, batch: list[MicroBatch]) -> dict[str, torch.Tensor]:
    """The gradient by each weight that learns, whole where workers share it."""
    trainer.backward(batch)
    gradients = {}
    for name, parameter in trainable_parameters(trainer.learner):
        assert parameter.grad is not None
        grad: Any = parameter.grad
        gradients[name] = (grad.full_tensor() if hasattr(grad, "full_tensor") else grad).clone()
    return gradients


def write_tuned_model(trainer: Trainer, folder: Path) -> Path:
    """The tuned model's files, and their folder."""
    name = trainer.config.model.name
    original_names = export.map_weight_names(name)
    tuned = {
        original_names[loaded]: weight
        for loaded, weight in export.gather_tuned_weights(trainer.learner)
    }
    folder.mkdir(exist_ok=True)
    for file, content in export.make_model_files(name, tuned):
        (folder / file).write_bytes(content)
    return folder
