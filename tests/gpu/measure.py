"""The device that is checked, its clock and its memory, and the table of what was measured."""

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from c3l_ray.train.learning.metrics import find_peak_flops

NUM_REPEATS = 3
GIB = 2**30


class Table:
    """Rows of what was measured, printed as they come."""

    def __init__(self) -> None:
        self.num_failures = 0
        print("| what | value | |", "| --- | ---: | --- |", sep="\n", flush=True)

    def add(self, what: str, value: str, is_right: bool | None = None) -> None:
        verdict = "" if is_right is None else "ok" if is_right else "FAILED"
        self.num_failures += is_right is False
        print(f"| {what} | {value} | {verdict} |", flush=True)


class Device:
    """The device that computes, its clock and its memory."""

    def __init__(self) -> None:
        self.is_gpu = torch.cuda.is_available()
        self.torch = torch.device("cuda" if self.is_gpu else "cpu")

    def measure(self, work: Callable[[], Any]) -> tuple[float, str]:
        """Median seconds, and the most memory that was held meanwhile."""
        seconds = []
        self.free()
        for _ in range(NUM_REPEATS):
            started = time.perf_counter()
            work()
            if self.is_gpu:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        peak = f"{torch.cuda.max_memory_allocated() / GIB:.1f} GiB" if self.is_gpu else "-"
        return statistics.median(seconds), peak

    def free(self) -> None:
        gc.collect()
        if self.is_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def mfu(self, flops: float, seconds: float) -> str:
        peak = find_peak_flops(self.torch)
        return f"MFU {flops / seconds / peak:.1%}" if peak else "MFU -"
