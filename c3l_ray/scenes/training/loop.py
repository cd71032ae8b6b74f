"""What both trainings share: settings, a loop that can be stopped, and how weights are kept."""

import hashlib
import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from c3l_ray.scenes import world
from c3l_ray.scenes.draw import BIASED, UNBIASED


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, and for how long."""

    out: Path = world.WEIGHTS
    """Folder that receives `llava/` and `clip/`."""
    parts: tuple[str, ...] = ("llava", "clip")
    """Which of the two to train; each is a process of its own, with one thread."""
    unfinished: Path = Path("runs/scenes")
    """Folder of what training goes on from when it was stopped; emptied as parts end."""
    save_every: int = 100
    """Steps between two saves of that."""
    seed: int = 0
    """Seed of the weights, the order and the drawn turns."""
    num_scenes: int = 20_000
    """Scenes to draw of each world."""
    tower_steps: int = 1_200
    """Supervised steps of the vision tower, 128 unbiased scenes each."""
    caption_steps: int = 1_400
    """Steps on captions only, 32 unbiased scenes each."""
    turn_steps: int = 2_400
    """Steps on all kinds of turns, 32 biased scenes each."""
    clip_steps: int = 1_500
    """Contrastive steps of the CLIP, 128 unbiased scenes each."""


class Unfinished:
    """A part's training on disk: the stage it is in, and all that its next step follows from.

    A file of other settings is left alone, so that only the same training goes on from it.
    """

    def __init__(
        self, training: Training, part: str, module: nn.Module, rng: random.Random
    ) -> None:
        passing = ("out", "parts", "unfinished", "save_every")
        settings = {k: v for k, v in asdict(training).items() if k not in passing}
        told = repr((sorted(settings.items(), key=str), UNBIASED, BIASED))
        digest = hashlib.sha256(told.encode()).hexdigest()[:12]
        self.path = training.unfinished / f"{part}-{digest}.pt"
        self.save_every = training.save_every
        self.module = module
        self.rng = rng
        self.stages: list[str] = []
        self.optimizer: dict[str, Any] | None = None
        self.step = 0
        if self.path.exists():
            # Written by this class: it holds the state of a random.Random beside the tensors.
            held = torch.load(self.path, weights_only=False)
            self.stages, self.step, self.optimizer = held["stages"], held["step"], held["optimizer"]
            module.load_state_dict(held["module"])
            rng.setstate(held["rng"])
            print(f"{part}: going on in {self.stages[-1]} at step {self.step}", flush=True)

    def run(
        self,
        stage: str,
        num_steps: int,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[], Tensor],
    ) -> None:
        """Trains a stage to its end: warm-up, cosine, clipped gradients, a line of progress."""
        if stage in self.stages[:-1]:
            return
        first = 0
        if self.stages and self.stages[-1] == stage:
            first = self.step
            optimizer.load_state_dict(self.optimizer or {})
        else:
            self.stages = [*self.stages, stage]
        peaks = [group["initial_lr"] for group in optimizer.param_groups]
        warm_up = max(1, num_steps // 20)
        started = time.monotonic()
        recent: list[float] = []
        for i in range(first, num_steps):
            progress = max(0.0, (i - warm_up) / max(1, num_steps - warm_up))
            scale = min((i + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * progress)))
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * max(scale, 0.02)
            optimizer.zero_grad()
            value = loss()
            value.backward()
            for group in optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], 1.0)
            optimizer.step()
            recent.append(value.item())
            if (i + 1) % 50 == 0:
                mean, seconds = sum(recent) / len(recent), time.monotonic() - started
                print(f"{stage}: {i + 1}/{num_steps} loss {mean:.4f} {seconds:.0f} s", flush=True)
                recent.clear()
            if (i + 1) % self.save_every == 0 or i + 1 == num_steps:
                self._save(i + 1, optimizer)

    def end(self) -> None:
        self.path.unlink(missing_ok=True)

    def _save(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        held = {
            "stages": self.stages,
            "step": step,
            "module": self.module.state_dict(),
            "optimizer": optimizer.state_dict(),
            "rng": self.rng.getstate(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.with_suffix(".new")
        torch.save(held, written)
        written.replace(self.path)


def adamw(module: nn.Module, lr: float, weight_decay: float = 0.01) -> torch.optim.AdamW:
    """AdamW over what is not frozen; the loop scales `lr` along its schedule."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay)
    for group in optimizer.param_groups:
        group["initial_lr"] = lr
    return optimizer


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Writes the file, and prints its digest for the world's README."""
    save_file(state, path, metadata={"format": "pt"})
    path.chmod(0o644)  # it writes files that only their owner may read
    with path.open("rb") as written:
        digest = hashlib.file_digest(written, hashlib.sha256).hexdigest()
    print(f"sha256 {digest} {path.parent.name}/{path.name}", flush=True)
