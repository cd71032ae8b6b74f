"""What a run measures of itself: losses, similarities, speed, and the time spent waiting."""

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from c3l_ray.train.learning.trainer import Trainer, mean_over_images, sum_over_workers
from c3l_ray.train.reading.chat_text import SKIP_REASONS

MeasurementLine = dict[str, float | None]
"""What is measured of the steps since the line before, by name; `step` counts all steps done."""

MEASUREMENTS = "measurements.json"
WRITE_EVERY_S = 30.0
REPORT_EVERY_S = 5.0  # Ray Train's controller takes one report every two seconds

# Dense bfloat16 peaks in FLOP/s by the makers' data sheets; the first name found counts.
PEAK_FLOPS = {
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


class MetricAccumulator:
    """Sums what steps measure, and turns it into a line of means every so many steps.

    Every worker has one; lines are the same on all of them.

    Args:
        trainer: of this worker.
        skipped: images that were skipped before this process began, by reason.

    Attributes:
        checkpoint_s: seconds of the last checkpoint that no step could use; None where there was
            none since the last line.
    """

    def __init__(self, trainer: Trainer, skipped: Mapping[str, int] | None = None) -> None:
        self.trainer = trainer
        self._skipped_before = dict(skipped or {})
        self._skipped_S = torch.zeros(len(SKIP_REASONS), dtype=torch.float64)  # by this worker
        self.names = trainer.learner.sum_names
        self.flops_per_token = count_flops_per_token(trainer)
        self.peak_flops = find_peak_flops(trainer.device)
        self._last_report = 0.0
        self._clear()

    def _clear(self) -> None:
        self._sums = torch.zeros(len(self.names), dtype=torch.float64, device=self.trainer.device)
        self._tokens, self._wait_s, self._step_s, self._num_steps = 0, 0.0, 0.0, 0
        self.checkpoint_s: float | None = None

    def add(
        self,
        sums: dict[str, Tensor],
        *,
        tokens: int,
        skipped_S: Tensor,
        wait_s: float,
        step_s: float,
    ) -> None:
        """Adds a step of this worker.

        Args:
            sums: as the step returns them.
            tokens: that the model read, those that texts share once.
            skipped_S: numbers of its images that were skipped, by reason.
            wait_s: seconds that it waited for its batch.
            step_s: seconds that it took in all.
        """
        self._sums += torch.stack([sums[name].double() for name in self.names])
        self._grad_norm = sums["grad_norm"]
        self._tokens += tokens
        self._skipped_S += skipped_S
        self._wait_s += wait_s
        self._step_s += step_s
        self._num_steps += 1

    def count_skipped(self) -> dict[str, int]:
        """The images of all workers that were skipped since the run began, by reason.

        An image counts as often as it was drawn. All workers call this together.
        """
        counts = sum_over_workers(self._skipped_S, self.trainer.device).tolist()
        return {
            reason: self._skipped_before.get(reason, 0) + int(count)
            for reason, count in zip(SKIP_REASONS, counts, strict=True)
        }

    def take_line(self, steps_done: int, learning_rate: float) -> tuple[MeasurementLine, bool]:
        """The measurements since the last line, and whether it is time to report some.

        Args:
            steps_done: steps of the run so far.
            learning_rate: of the last one.
        """
        now = time.monotonic()
        is_due = self.trainer.rank == 0 and now - self._last_report >= REPORT_EVERY_S
        own_values = [self._tokens, self._wait_s, self._step_s, float(is_due)]
        totals = sum_over_workers(own_values, self.trainer.device).tolist()
        tokens, wait_s, step_s, report_now = totals
        seconds = max(step_s / self.trainer.num_workers, 1e-9)
        speed = tokens / seconds
        flops = speed * self.flops_per_token / self.trainer.num_workers
        skipped = self.count_skipped()
        line: MeasurementLine = {
            "step": steps_done,
            **mean_over_images(self._sums, self.names),
            "grad_norm": float(self._grad_norm),
            "learning_rate": learning_rate,
            "tokens_per_s": speed,
            "seconds_per_step": seconds / self._num_steps,
            "data_wait_share": wait_s / max(step_s, 1e-9),
            "checkpoint_s": self.checkpoint_s,
            "mfu": flops / self.peak_flops if self.peak_flops else None,
            "skipped_unusable_image": skipped["unusable_image"],
            "skipped_altered_text": skipped["altered_text"],
            "skipped_too_long": skipped["too_long"],
        }
        self._clear()
        if report_now:
            self._last_report = now
        return line, bool(report_now)


class MeasurementLog:
    """A run's lines for people: all of them in one file, and in TensorBoard's.

    Args:
        write: writes a whole file of the output, by its name.
        measurements: the lines of the steps before this process began.
        first_step: the step that this process begins with.
    """

    def __init__(
        self,
        write: Callable[[str, bytes], None],
        measurements: list[MeasurementLine],
        first_step: int,
    ) -> None:
        from tensorboardX import SummaryWriter

        self.measurements = measurements
        self._write = write
        self._folder = tempfile.TemporaryDirectory()
        self._tensorboard = SummaryWriter(logdir=self._folder.name, purge_step=first_step)
        self._last_write = 0.0

    def add(self, line: MeasurementLine) -> None:
        """Adds a line, and writes the files where that is due."""
        self.measurements.append(line)
        for name, value in line.items():
            if name != "step" and value is not None:
                self._tensorboard.add_scalar(name, value, line["step"])
        if time.monotonic() - self._last_write >= WRITE_EVERY_S:
            self.write_files()

    def write_files(self) -> None:
        """Writes all lines so far."""
        self._last_write = time.monotonic()
        self._tensorboard.flush()
        self._write(MEASUREMENTS, json.dumps(self.measurements).encode())
        for path in Path(self._folder.name).iterdir():
            self._write(f"tensorboard/{path.name}", path.read_bytes())

    def close(self) -> None:
        """Writes all lines; none can be added after it."""
        self.write_files()
        self._tensorboard.close()
        self._folder.cleanup()


def count_flops_per_token(trainer: Trainer) -> float:
    """FLOPs of a training step: 6 for each weight of the language half, or 4 where it is frozen.

    A frozen weight needs no gradient of its own, only the one that passes through. The vision tower
    is left out and activations computed twice count once, so that MFU is a lower bound.
    """
    num_weights = sum(weight.numel() for weight in trainer.learner.language_weights())
    return (6.0 if trainer.config.tune_mode == "full" else 4.0) * num_weights


def find_peak_flops(device: torch.device) -> float | None:
    """The device's peak in FLOP/s, or None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in PEAK_FLOPS.items() if known in name), None)
