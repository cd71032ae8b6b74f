"""Steps of the optimizer over the micro-batches of a batch, and the state that a run resumes from.

Nothing here knows Ray: one process computes alone, several through torch.distributed. What a step
does is a function of the weights, the batch, the number of the step and the seed: the learning rate
and the random numbers come from the step's number, so they need no state of their own, and another
number of workers resumes from the same checkpoint.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from c3l_ray.train.learning import batch_alignment, losses
from c3l_ray.train.learning.batch_alignment import Align, MicroBatchDirections
from c3l_ray.train.learning.loading import trainable_parameters
from c3l_ray.train.learning.sharding import load_distributed
from c3l_ray.train.learning.shared_rows import count_tokens
from c3l_ray.train.learning.sharing_check import find_shared_attention
from c3l_ray.train.reading.batches import MicroBatch, to_device
from c3l_ray.train.training_config import TrainConfig

_ONLY_TRAINABLE = StateDictOptions(ignore_frozen_params=True, strict=False)


class Trainer:
    """The learner and its AdamW.

    Args:
        config: of the run.
        num_steps: of the whole run, for the learning rate's cosine.
        device: to compute on.
    """

    def __init__(self, config: TrainConfig, num_steps: int, device: torch.device) -> None:
        self.config = config
        self.num_steps = num_steps
        self.device = device
        self.dtype = choose_dtype(config, device)
        self.num_workers = dist.get_world_size() if dist.is_initialized() else 1
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.learner, self.distributed_learner = load_distributed(config, self.dtype, device)
        self.parameters = [parameter for _, parameter in trainable_parameters(self.learner)]
        self.adamw = torch.optim.AdamW(
            self.parameters,
            lr=config.peak_learning_rate,
            betas=config.optim.betas,
            weight_decay=config.optim.weight_decay,
        )
        self._votes: Tensor | None = None

    def share_prefixes(self, micro_batch: MicroBatch) -> list[str]:
        """Has the texts of an image share what they begin with, where that is proved to be right.

        All workers call this together, before the first step of a process.

        Args:
            micro_batch: this worker's first one.

        Returns:
            A note for the user where it is not, which costs time and memory; or nothing.
        """
        self._set_gradient_sync(True)
        self.learner.attention, reason = find_shared_attention(
            self.learner,
            lambda inputs: self._forward(inputs, losses.two_sided_alignment),
            to_device(micro_batch, self.device),
            is_half=self.dtype == torch.bfloat16,
        )
        if reason is None:
            return []
        name = self.config.model.name
        return [f"{name} computes an image once for each of its texts, which is slower: {reason}"]

    def count_tokens(self, batch: Sequence[MicroBatch]) -> int:
        """The tokens that the model reads in a step, those that texts share once.

        Args:
            batch: this worker's micro-batches of the step, on the host.
        """
        is_shared = self.learner.attention is not None
        return sum(count_tokens(micro_batch, is_shared=is_shared) for micro_batch in batch)

    def step(self, number: int, batch: Sequence[MicroBatch]) -> dict[str, Tensor]:
        """One step, and what it measures: sums over this worker's images, and `grad_norm`.

        Args:
            number: of the step, from 0.
            batch: this worker's micro-batches of it.
        """
        torch.manual_seed(_step_seed(self.config.optim.seed, number, self.rank))
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate_at(self.config, number, self.num_steps)
        sums = self.backward(batch)
        norm: Any = nn.utils.clip_grad_norm_(self.parameters, self.config.optim.max_grad_norm)
        self.adamw.step()
        self.adamw.zero_grad()
        return {**sums, "grad_norm": norm.full_tensor() if isinstance(norm, DTensor) else norm}

    def backward(self, batch: Sequence[MicroBatch]) -> dict[str, Tensor]:
        """Gradients of the mean loss over the batch, and the sums over this worker's images."""
        self.distributed_learner.train()
        # Workers' gradients are averaged; an image counts 1 / batch_size whoever computes it.
        scale = self.num_workers / self.config.optim.batch_size
        sums: dict[str, Tensor] = {}
        alignments = self._plan_alignments(batch)
        for number, micro_batch in enumerate(batch):
            self._set_gradient_sync(number == len(batch) - 1)
            new_sums = self._forward(micro_batch, alignments[number])
            (new_sums["loss"] * scale).backward()
            for name, value in new_sums.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
        return sums

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Sequence[MicroBatch]]) -> dict[str, float]:
        """The means of the loss and its parts over the images of all workers.

        Args:
            batches: this worker's micro-batches of each.
        """
        self.distributed_learner.eval()
        names = self.learner.sum_names
        total = torch.zeros(len(names), device=self.device, dtype=torch.float64)
        for batch in batches:
            for micro_batch, align in zip(batch, self._plan_alignments(batch), strict=True):
                sums = self._forward(micro_batch, align)
                total += torch.stack([sums[name].double() for name in names])
        return mean_over_images(total, names)

    def agree(self, vote: bool) -> bool:
        """Whether a worker has voted for something; all of them ask together, once a step.

        Several workers answer with the votes of the step before, so that no device is waited for.
        """
        if self.num_workers == 1:
            return vote
        earlier, self._votes = self._votes, sum_over_workers([float(vote)], self.device)
        return earlier is not None and bool(earlier.item())

    def _plan_alignments(self, batch: Sequence[MicroBatch]) -> list[Align]:
        """What cgvlm contrasts each micro-batch with: itself, or the whole batch."""
        config = self.config
        is_alone = config.objective != "cgvlm" or config.alignment.negatives == "micro-batch"
        if is_alone or len(batch) == 1:
            return [losses.two_sided_alignment] * len(batch)
        directions: list[MicroBatchDirections] = []
        devices = [self.device] if self.device.type == "cuda" else []
        # The second pass draws the random numbers of the first again.
        with torch.no_grad(), torch.random.fork_rng(devices):
            for micro_batch in batch:
                self._forward(micro_batch, batch_alignment.record_into(directions))
        return batch_alignment.alignments_per_micro_batch(directions)

    def _forward(self, micro_batch: MicroBatch, align: Align) -> dict[str, Tensor]:
        is_mixed = self.dtype == torch.bfloat16
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=is_mixed):
            inputs = to_device(micro_batch, self.device)
            sums: dict[str, Tensor] = self.distributed_learner(inputs, align)
        return sums

    def _set_gradient_sync(self, enabled: bool) -> None:
        """Whether the next backward pass averages the gradients over the workers."""
        learner = self.distributed_learner
        if isinstance(learner, nn.parallel.DistributedDataParallel):
            learner.require_backward_grad_sync = enabled
        elif isinstance(learner, FSDPModule):
            learner.set_requires_gradient_sync(enabled)

    def save(self, folder: Path) -> None:
        """Writes what this worker holds of the weights that learn and of the optimizer's state."""
        save(self._state_dict(), checkpoint_id=folder)

    def restore(self, folder: Path) -> None:
        """Takes the state that any number of workers saved."""
        state = self._state_dict()
        load(state, checkpoint_id=folder)
        set_state_dict(
            self.distributed_learner,
            self.adamw,
            model_state_dict=state["weights"],
            optim_state_dict=state["adamw"],
            options=_ONLY_TRAINABLE,
        )

    def _state_dict(self) -> dict[str, Any]:
        weights, adamw = get_state_dict(
            self.distributed_learner, self.adamw, options=_ONLY_TRAINABLE
        )
        return {"weights": weights, "adamw": adamw}


def sum_over_workers(
    values: Sequence[float] | Tensor, device: torch.device | None = None
) -> Tensor:
    """The sums of all workers' values, in float64."""
    total = torch.as_tensor(values, dtype=torch.float64, device=device).clone()
    if dist.is_initialized():
        dist.all_reduce(total)
    return total


def mean_over_images(total: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Means over all workers' images.

    Args:
        total: this worker's sums.
        names: of them; `images` is one.
    """
    total = sum_over_workers(total)
    values = dict(zip(names, total.tolist(), strict=True))
    images = values.pop("images")
    return {name: value / max(images, 1.0) for name, value in values.items()}


def learning_rate_at(config: TrainConfig, step: int, num_steps: int) -> float:
    """The learning rate of a step: a linear rise over the warm-up, then a cosine down to 0."""
    warm_up = round(config.optim.warm_up * num_steps)
    if step < warm_up:
        return config.peak_learning_rate * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, num_steps - warm_up)
    return config.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def choose_dtype(config: TrainConfig, device: torch.device) -> torch.dtype:
    """The type that the model computes in."""
    if config.model.precision == "auto":
        has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if has_bfloat16 else torch.float32
    return torch.bfloat16 if config.model.precision == "bfloat16" else torch.float32


def _step_seed(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step) * 65_537 + rank
