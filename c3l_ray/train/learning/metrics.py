"""What a run measures of itself: losses, similarities, speed, and the time spent waiting."""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from c3l_ray.train.learning.step import Optimizer, all_sum, means

Measured = dict[str, float | None]

MEASUREMENTS = "measurements.json"
PUT_EVERY_S = 30.0
REPORT_EVERY_S = 5.0  # Ray Train's controller takes one report every two seconds

# Dense bfloat16 peaks in FLOP/s by the makers' data sheets; the first name found counts.
PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10": 125e12,
    "L4": 121e12,
    "V100": 125e12,
    "T4": 65e12,
}


class Meter:
    """Sums what steps measure, and turns it into a line of means every so many steps.

    Every worker has one; lines are the same on all of them.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.names = optimizer.learner.parts
        self.flops_per_token = flops_per_token(optimizer)
        self.peak = peak_flops(optimizer.device)
        self._last_report = 0.0
        self._clear()

    def _clear(self) -> None:
        self._parts = torch.zeros(
            len(self.names), dtype=torch.float64, device=self.optimizer.device
        )
        self._tokens, self._wait_s, self._step_s, self._steps = 0, 0.0, 0.0, 0
        self.checkpoint_s: float | None = None  # of the last one: the time that no step could use

    def add(self, parts: dict[str, Tensor], *, tokens: int, wait_s: float, step_s: float) -> None:
        """A step's sums, the tokens of its sequences, its waiting time and its whole time."""
        self._parts += torch.stack([parts[name].double() for name in self.names])
        self._norm = parts["grad_norm"]
        self._tokens += tokens
        self._wait_s += wait_s
        self._step_s += step_s
        self._steps += 1

    def line(self, step: int, rate: float) -> tuple[Measured, bool]:
        """The measurements since the last line, and whether it is time to report some.

        Args:
            step: how many are done.
            rate: the learning rate of the last one.
        """
        now = time.monotonic()
        due = self.optimizer.rank == 0 and now - self._last_report >= REPORT_EVERY_S
        ours = [self._tokens, self._wait_s, self._step_s, float(due)]
        tokens, wait_s, step_s, time_to = all_sum(ours, self.optimizer.device).tolist()
        seconds = max(step_s / self.optimizer.num_workers, 1e-9)
        speed = tokens / seconds
        flops = speed * self.flops_per_token / self.optimizer.num_workers
        line: Measured = {
            "step": step,
            **means(self._parts, self.names),
            "grad_norm": float(self._norm),
            "learning_rate": rate,
            "tokens_per_s": speed,
            "seconds_per_step": seconds / self._steps,
            "data_wait_share": wait_s / max(step_s, 1e-9),
            "checkpoint_s": self.checkpoint_s,
            "mfu": flops / self.peak if self.peak else None,
        }
        self._clear()
        if time_to:
            self._last_report = now
        return line, bool(time_to)


class Board:
    """A run's lines for people: all of them in one file, and in TensorBoard's.

    Args:
        put: writes a whole file of the output.
        history: the lines of the steps before this process began.
        first_step: the step that this process begins with.
    """

    def __init__(
        self, put: Callable[[str, bytes], None], history: list[Measured], first_step: int
    ) -> None:
        from tensorboardX import SummaryWriter

        self.put = put
        self.history = history
        self._folder = tempfile.TemporaryDirectory()
        self._writer = SummaryWriter(logdir=self._folder.name, purge_step=first_step)
        self._last_put = 0.0

    def add(self, line: Measured) -> None:
        self.history.append(line)
        for name, value in line.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(name, value, line["step"])
        if time.monotonic() - self._last_put >= PUT_EVERY_S:
            self.write()

    def write(self) -> None:
        self._last_put = time.monotonic()
        self._writer.flush()
        self.put(MEASUREMENTS, json.dumps(self.history).encode())
        for path in Path(self._folder.name).iterdir():
            self.put(f"tensorboard/{path.name}", path.read_bytes())

    def close(self) -> None:
        self.write()
        self._writer.close()
        self._folder.cleanup()


def flops_per_token(optimizer: Optimizer) -> float:
    """Of one training step: 6 for each weight of the language half, or 4 where it is frozen.

    A frozen weight needs no gradient of its own, only the one that passes through. The vision tower
    is left out and activations computed twice count once, so that MFU is a lower bound.
    """
    weights = sum(weight.numel() for weight in optimizer.learner.language_weights())
    return (6.0 if optimizer.config.tune == "full" else 4.0) * weights


def peak_flops(device: torch.device) -> float | None:
    """The device's peak in FLOP/s, or None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in PEAKS.items() if known in name), None)
