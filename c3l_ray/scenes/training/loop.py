"""What both trainings share: settings, a loop that can be stopped, and how weights are kept."""

import hashlib
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
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
    llava_scenes: int = 10_000
    """Scenes to draw of each world for the LLaVA."""
    tower_steps: int = 600
    """Supervised steps of the vision tower, 64 unbiased scenes each."""
    naming_steps: int = 300
    """Steps that bring the projector and the words together, 32 unbiased scenes each."""
    reading_steps: int = 400
    """Steps on captions of and questions about unbiased scenes, 8 scenes each."""
    finding_steps: int = 800
    """Steps on finding things by their shape, 8 unbiased scenes each."""
    answering_steps: int = 1_600
    """Steps on questions alone about unbiased scenes, 8 scenes each."""
    bias_steps: int = 600
    """Steps on all kinds of turns about biased scenes, 8 scenes each."""
    posing_steps: int = 800
    """Steps on the same, mostly posed by the model itself, 8 scenes each."""
    clip_scenes: int = 20_000
    """Unbiased scenes to draw for the CLIP."""
    clip_steps: int = 900
    """Contrastive steps of the CLIP, 128 scenes each."""


# The share of the peak rate at a step, of so many.
Schedule = Callable[[int, int], float]


def cosine(step: int, num_steps: int) -> float:
    """Up for a twentieth of the steps, then down along half a cosine."""
    warm_up = max(1, num_steps // 20)
    progress = max(0.0, (step - warm_up) / max(1, num_steps - warm_up))
    return max(0.02, min((step + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * progress))))


def trapezoid(step: int, num_steps: int) -> float:
    """Up for 30 steps, level, and down in a line for the last quarter."""
    return max(0.02, min((step + 1) / 30, 1.0, 4 * (num_steps - step) / num_steps))


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
        self.optimizers: list[dict[str, Any]] = []
        self.step = 0
        if self.path.exists():
            # Written by this class: it holds the state of a random.Random beside the tensors.
            held = torch.load(self.path, weights_only=False)
            self.stages, self.step = held["stages"], held["step"]
            self.optimizers = held["optimizers"]
            module.load_state_dict(held["module"])
            rng.setstate(held["rng"])
            print(f"{part}: going on in {self.stages[-1]} at step {self.step}", flush=True)

    def run(
        self,
        stage: str,
        num_steps: int,
        optimizers: Sequence[torch.optim.Optimizer],
        loss: Callable[[], Tensor],
        schedule: Schedule,
    ) -> None:
        """Trains a stage to its end: scheduled rates, clipped gradients, a line of progress."""
        if stage in self.stages[:-1]:
            return
        first = 0
        if self.stages and self.stages[-1] == stage:
            first = self.step
            for optimizer, state in zip(optimizers, self.optimizers, strict=True):
                optimizer.load_state_dict(state)
        else:
            self.stages = [*self.stages, stage]
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        started = time.monotonic()
        recent: list[float] = []
        for i in range(first, num_steps):
            for group in groups:
                group["lr"] = group["initial_lr"] * schedule(i, num_steps)
            value = loss()
            value.backward()
            nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            recent.append(value.item())
            if (i + 1) % 50 == 0:
                mean, seconds = sum(recent) / len(recent), time.monotonic() - started
                print(f"{stage}: {i + 1}/{num_steps} loss {mean:.4f} {seconds:.0f} s", flush=True)
                recent.clear()
            if (i + 1) % self.save_every == 0 or i + 1 == num_steps:
                self._save(i + 1, optimizers)

    def end(self) -> None:
        self.path.unlink(missing_ok=True)

    def _save(self, step: int, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        held = {
            "stages": self.stages,
            "step": step,
            "module": self.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "rng": self.rng.getstate(),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.with_suffix(".new")
        torch.save(held, written)
        written.replace(self.path)


def adamw(
    parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.01
) -> torch.optim.AdamW:
    """AdamW over what is not frozen; the loop scales `lr` along its schedule."""
    learned = [p for p in parameters if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay)
    for group in optimizer.param_groups:
        group["initial_lr"] = lr
    return optimizer


def muon(module: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon over the matrices inside a language model, AdamW over the rest of what is not frozen.

    Muon (K. Jordan and others, 2024) makes each step's matrix nearly orthogonal; the tiny LLaVA
    needs a fraction of the steps with it. Its rate is scaled to AdamW's (arXiv 2502.16982, eq. 4).
    """
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    inner = {n for n, p in named if p.ndim == 2 and "embed" not in n and "lm_head" not in n}
    matrices = [p for name, p in named if name in inner]
    first = torch.optim.Muon(
        matrices, lr=lr, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for group in first.param_groups:
        group["initial_lr"] = lr
    return [first, adamw((p for name, p in named if name not in inner), lr)]


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Writes the file, and prints its digest for the world's README."""
    save_file(state, path, metadata={"format": "pt"})
    path.chmod(0o644)  # it writes files that only their owner may read
    with path.open("rb") as written:
        digest = hashlib.file_digest(written, hashlib.sha256).hexdigest()
    print(f"sha256 {digest} {path.parent.name}/{path.name}", flush=True)
