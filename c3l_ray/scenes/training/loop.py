"""What the trainings of the tiny models share: a resumable loop, optimizers, saved weights."""

import hashlib
import logging
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from c3l_ray.scenes.draw import BIASED, UNBIASED
from c3l_ray.scenes.training.weights_config import ModelName, WeightsConfig

NO_PART_OF_TRAINING = ("output", "models", "checkpoints", "save_every")
"""Fields of the config that do not change what is trained."""

Schedule = Callable[[int, int], float]
"""The share of the peak learning rate at a step, of so many steps."""

log = logging.getLogger(__name__)


def cosine_schedule(step: int, num_steps: int) -> float:
    """Rises for a twentieth of the steps, then falls along half a cosine."""
    warmup_steps = max(1, num_steps // 20)
    progress = max(0.0, (step - warmup_steps) / max(1, num_steps - warmup_steps))
    return max(0.02, min((step + 1) / warmup_steps, 0.5 * (1 + math.cos(math.pi * progress))))


def trapezoid_schedule(step: int, num_steps: int) -> float:
    """Rises for 30 steps, stays level, and falls in a line for the last quarter."""
    return max(0.02, min((step + 1) / 30, 1.0, 4 * (num_steps - step) / num_steps))


class ResumableTraining:
    """A model's training: the stage it is in, and all that its next step follows from, on disk.

    The name of the file depends on the settings, so that only the same training resumes from it.

    Args:
        config: of the training.
        model: the name of the model.
        module: all that is trained.
        rng: that scenes and turns are drawn with.
    """

    def __init__(
        self, config: WeightsConfig, model: ModelName, module: nn.Module, rng: random.Random
    ) -> None:
        settings = {
            name: value for name, value in asdict(config).items() if name not in NO_PART_OF_TRAINING
        }
        identity = repr((sorted(settings.items(), key=str), UNBIASED, BIASED))
        digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
        self.path = config.checkpoints / f"{model}-{digest}.pt"
        self.save_every = config.save_every
        self.module = module
        self.rng = rng
        self.stages: list[str] = []
        self.optimizers: list[dict[str, Any]] = []
        self.step = 0
        if self.path.exists():
            # Written by this class: it holds the state of a random.Random beside the tensors.
            checkpoint = torch.load(self.path, weights_only=False)
            self.stages, self.step = checkpoint["stages"], checkpoint["step"]
            self.optimizers = checkpoint["optimizers"]
            module.load_state_dict(checkpoint["module"])
            rng.setstate(checkpoint["rng"])
            log.info("%s: resumes in %s at step %d", model, self.stages[-1], self.step)

    def train_stage(
        self,
        stage: str,
        num_steps: int,
        optimizers: Sequence[torch.optim.Optimizer],
        compute_loss: Callable[[], Tensor],
        schedule: Schedule,
    ) -> None:
        """Trains a stage to its end, or nothing where an earlier command finished it.

        Args:
            stage: its name.
            num_steps: of the stage.
            optimizers: of the parameters that the stage trains.
            compute_loss: draws a batch, and computes its loss.
            schedule: of the learning rates.
        """
        if stage in self.stages[:-1]:
            return
        first_step = 0
        if self.stages and self.stages[-1] == stage:
            first_step = self.step
            for optimizer, state in zip(optimizers, self.optimizers, strict=True):
                optimizer.load_state_dict(state)
        else:
            self.stages = [*self.stages, stage]
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        started = time.monotonic()
        recent_losses: list[float] = []
        for step in range(first_step, num_steps):
            for group in groups:
                group["lr"] = group["initial_lr"] * schedule(step, num_steps)
            loss = compute_loss()
            loss.backward()
            nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            recent_losses.append(loss.item())
            num_done = step + 1
            if num_done % 50 == 0:
                mean = sum(recent_losses) / len(recent_losses)
                seconds = time.monotonic() - started
                log.info("%s: %d/%d loss %.4f %.0f s", stage, num_done, num_steps, mean, seconds)
                recent_losses.clear()
            if num_done % self.save_every == 0 or num_done == num_steps:
                self._save(num_done, optimizers)

    def delete_checkpoint(self) -> None:
        self.path.unlink(missing_ok=True)

    def _save(self, step: int, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        checkpoint = {
            "stages": self.stages,
            "step": step,
            "module": self.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "rng": self.rng.getstate(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".new")
        torch.save(checkpoint, temporary)
        temporary.replace(self.path)


def make_adamw(
    parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.01
) -> torch.optim.AdamW:
    """AdamW over the parameters that are not frozen; the loop scales `lr` along its schedule."""
    trainable = [p for p in parameters if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay)
    for group in optimizer.param_groups:
        group["initial_lr"] = lr
    return optimizer


def make_muon(module: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon over the inner matrices of a model, AdamW over its other unfrozen parameters.

    Muon (K. Jordan and others, 2024) makes each step's matrix nearly orthogonal; the tiny LLaVA
    needs a fraction of the steps with it. Its rate is scaled to AdamW's (arXiv 2502.16982, eq. 4).
    """
    trainable = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    matrices = {
        name: p
        for name, p in trainable
        if p.ndim == 2 and "embed" not in name and "lm_head" not in name
    }
    optimizer = torch.optim.Muon(
        list(matrices.values()),
        lr=lr,
        weight_decay=0.01,
        momentum=0.95,
        adjust_lr_fn="match_rms_adamw",
    )
    for group in optimizer.param_groups:
        group["initial_lr"] = lr
    return [optimizer, make_adamw((p for name, p in trainable if name not in matrices), lr)]


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Writes the file, and logs its digest for the README of the scenes."""
    save_file(state, path, metadata={"format": "pt"})
    path.chmod(0o644)  # save_file writes files that only their owner may read
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, hashlib.sha256).hexdigest()
    log.info("sha256 %s %s/%s", digest, path.parent.name, path.name)
