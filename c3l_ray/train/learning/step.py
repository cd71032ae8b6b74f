"""Steps of the optimizer over a batch's shares, and the state from which a run goes on.

Nothing here knows Ray: one process computes alone, several through torch.distributed. What a step
does is a function of the weights, the batch, the number of the step and the seed: the learning rate
and the random numbers come from the step's number, so they need no state of their own, and another
number of workers goes on from the same checkpoint.
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

from c3l_ray.train.learning import losses, learner, batch_alignment
from c3l_ray.train.reading.batches import Batch, to_device
from c3l_ray.train.training_config import TrainConfig

_ONLY_LEARNING = StateDictOptions(ignore_frozen_params=True, strict=False)


class Optimizer:
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
        self.dtype = precision(config, device)
        self.num_workers = dist.get_world_size() if dist.is_initialized() else 1
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.learner = learner.load(config, self.dtype, device)
        self.shared = learner.shared(self.learner, config, self.dtype)
        self.weights = [weight for _, weight in learner.learning(self.learner)]
        self.adamw = torch.optim.AdamW(
            self.weights,
            lr=config.learning_rate,
            betas=config.optim.betas,
            weight_decay=config.optim.weight_decay,
        )

    def step(self, number: int, shares: Sequence[Batch]) -> dict[str, Tensor]:
        """One step, and its measurements: sums of parts over this worker's images, grad_norm.

        Args:
            number: of the step, from 0.
            shares: of this worker, one a round.
        """
        torch.manual_seed(_seed(self.config.optim.seed, number, self.rank))
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate(self.config, number, self.num_steps)
        sums = self.backward(shares)
        norm: Any = nn.utils.clip_grad_norm_(self.weights, self.config.optim.clip_norm)
        self.adamw.step()
        self.adamw.zero_grad()
        return {**sums, "grad_norm": norm.full_tensor() if isinstance(norm, DTensor) else norm}

    def backward(self, shares: Sequence[Batch]) -> dict[str, Tensor]:
        """Gradients of the mean loss over the batch, and the sums of this worker's images."""
        self.shared.train()
        # Workers' gradients are averaged; an image counts 1 / batch_size whoever computes it.
        scale = self.num_workers / self.config.optim.batch_size
        sums: dict[str, Tensor] = {}
        alignments = self._alignments(shares)
        for number_of_round, share in enumerate(shares):
            self._synchronise(number_of_round == len(shares) - 1)
            parts = self._forward(share, alignments[number_of_round])
            (parts["loss"] * scale).backward()
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
        return sums

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Sequence[Batch]]) -> dict[str, float]:
        """The means of the objective's parts over the images of all workers.

        Args:
            batches: this worker's shares of each.
        """
        self.shared.eval()
        names = self.learner.parts
        total = torch.zeros(len(names), device=self.device, dtype=torch.float64)
        for shares in batches:
            for share, align in zip(shares, self._alignments(shares), strict=True):
                parts = self._forward(share, align)
                total += torch.stack([parts[name].double() for name in names])
        return means(total, names)

    def _alignments(self, shares: Sequence[Batch]) -> list[batch_alignment.Align]:
        """What cgvlm contrasts each round of a batch with: itself, or the whole batch."""
        config = self.config
        apart = config.objective != "cgvlm" or config.alignment.negatives == "micro-batch"
        if apart or len(shares) == 1:
            return [losses.two_sided] * len(shares)
        rounds: list[batch_alignment.Round] = []
        devices = [self.device] if self.device.type == "cuda" else []
        # The second pass draws the random numbers of the first again.
        with torch.no_grad(), torch.random.fork_rng(devices):
            for share in shares:
                self._forward(share, batch_alignment.kept_in(rounds))
        return batch_alignment.of_rounds(rounds)

    def _forward(self, share: Batch, align: batch_alignment.Align) -> dict[str, Tensor]:
        mixed = self.dtype == torch.bfloat16
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=mixed):
            parts: dict[str, Tensor] = self.shared(to_device(share, self.device), align)
        return parts

    def _synchronise(self, now: bool) -> None:
        """Whether the next backward pass averages the gradients over the workers."""
        if isinstance(self.shared, nn.parallel.DistributedDataParallel):
            self.shared.require_backward_grad_sync = now
        elif isinstance(self.shared, FSDPModule):
            self.shared.set_requires_gradient_sync(now)

    def save(self, folder: Path) -> None:
        """Writes what this worker holds of the weights that learn and of the optimizer's state."""
        save(self._state(), checkpoint_id=folder)

    def restore(self, folder: Path) -> None:
        """Goes on from what any number of workers saved."""
        state = self._state()
        load(state, checkpoint_id=folder)
        set_state_dict(
            self.shared,
            self.adamw,
            model_state_dict=state["weights"],
            optim_state_dict=state["adamw"],
            options=_ONLY_LEARNING,
        )

    def _state(self) -> dict[str, Any]:
        weights, adamw = get_state_dict(self.shared, self.adamw, options=_ONLY_LEARNING)
        return {"weights": weights, "adamw": adamw}


def all_sum(values: Sequence[float] | Tensor, device: torch.device | None = None) -> Tensor:
    """The sums of all workers' values, in float64."""
    total = torch.as_tensor(values, dtype=torch.float64, device=device).clone()
    if dist.is_initialized():
        dist.all_reduce(total)
    return total


def means(total: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Means over all workers' images from this worker's sums of these parts."""
    total = all_sum(total)
    values = dict(zip(names, total.tolist(), strict=True))
    images = values.pop("images")
    return {name: value / max(images, 1.0) for name, value in values.items()}


def learning_rate(config: TrainConfig, step: int, num_steps: int) -> float:
    """Rises linearly over the warm-up, then falls to 0 along a cosine."""
    warm_up = round(config.optim.warm_up * num_steps)
    if step < warm_up:
        return config.learning_rate * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, num_steps - warm_up)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def precision(config: TrainConfig, device: torch.device) -> torch.dtype:
    """The type that the model computes in."""
    if config.model.precision == "auto":
        has = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if has else torch.float32
    return torch.bfloat16 if config.model.precision == "bfloat16" else torch.float32


def _seed(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step) * 65_537 + rank
