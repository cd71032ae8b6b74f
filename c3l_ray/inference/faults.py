"""What keeps one bad pass from costing more than its own turns: halving, and waiting for memory."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from c3l_ray.errors import C3LError, first_line
from c3l_ray.model_config import Pools, ScorerPool

MAX_FAULTS_AT_FIRST = 100
"""Turns that a model may fail on before it has measured any."""
MEMORY_ATTEMPTS = 12
MEMORY_PAUSE_S = 10.0

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fault:
    """What a computation failed with, without the tensors that its exception holds.

    Attributes:
        reason: the exception's type, to count by.
        detail: the first line of its message.
    """

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"

    @classmethod
    def from_error(cls, error: Exception) -> "Fault":
        return cls(type(error).__name__, first_line(error))


class FaultCount:
    """Tells a model that fails on some turns from one that has failed on all.

    Args:
        model: by its name.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.num_measured = 0
        self.num_faults = 0

    def add(self, results: Sequence[object]) -> list[Fault]:
        """Counts the results of `measure_by_halves`, and returns the faults among them.

        Raises:
            C3LError: the model has measured nothing yet, and failed too often.
        """
        faults = [result for result in results if isinstance(result, Fault)]
        self.num_faults += len(faults)
        self.num_measured += len(results) - len(faults)
        if not self.num_measured and self.num_faults >= MAX_FAULTS_AT_FIRST:
            raise C3LError(
                f"{self.model} failed on each of the first {self.num_faults} turns, the last time "
                f"with {faults[-1]}"
            )
        return faults


def measure_by_halves(
    items: Sequence[Item],
    measure: Callable[[Sequence[Item]], Sequence[Result]],
    image_of: Callable[[Item], object],
) -> list[Result | Fault]:
    """The result of each item, or the fault of one that cannot be measured even alone.

    A batch that fails is done again in halves, images first and then the items of one image, so
    that the others keep their results. An item that fails alone costs as many more passes over its
    batch as there are halvings at most, of half the size each.

    Args:
        items: those of an image stand together.
        measure: the results of items, in their order.
        image_of: the image that an item is about; images are told apart by identity.
    """
    if not items:
        return []
    try:
        return list(measure(items))
    except Exception as error:  # whatever a model's code, a processor or the device raises
        fault = Fault.from_error(error)
        log.warning("%d turns failed together: %s", len(items), fault, exc_info=len(items) == 1)
    # Out of the handler, so that the tensors of the failed pass are free.
    free_memory()
    if len(items) == 1:
        return [fault]
    middle = _find_middle(items, image_of)
    return [
        *measure_by_halves(items[:middle], measure, image_of),
        *measure_by_halves(items[middle:], measure, image_of),
    ]


def wait_for_memory(load: Callable[[], Result], what: str, advice: str) -> Result:
    """What `load` returns, tried again for two minutes while the GPU is out of memory.

    An engine that starts beside it takes more memory for a while than it keeps.

    Args:
        load: a model.
        what: it loads.
        advice: a sentence for where the memory does not suffice.

    Raises:
        C3LError: the memory does not suffice.
    """
    for attempt in range(MEMORY_ATTEMPTS):
        try:
            return load()
        except torch.OutOfMemoryError as error:
            fault = Fault.from_error(error)
        log.warning("%s: attempt %d: %s", what, attempt + 1, fault)
        free_memory()
        time.sleep(MEMORY_PAUSE_S)
    raise C3LError(
        f"{what} does not fit into the memory that is left of the GPU: {fault.detail} {advice}"
    )


def advise_memory(pools: ScorerPool) -> str:
    """What gives a scorer more memory than its share of the GPUs has.

    Args:
        pools: of the run, as decided.
    """
    gpus = pools.scorer_gpus or 0.0
    if gpus >= 1:
        return (
            f"Give it more GPUs with --pools.scorer-gpus {int(gpus) + 1}, or name a smaller model "
            "as --scorer.name"
        )
    advice = "Give it a GPU of its own with --pools.scorer-gpus 1"
    # Of jobs that generate; jobs.score has no engine beside its scorers.
    engine = ", or the engine less with --model.gpu-memory"
    return advice + engine if isinstance(pools, Pools) else advice


def free_memory() -> None:
    """Gives the memory that torch holds and does not use back to the GPU."""
    if torch.cuda.is_available():
        try:
            torch.cuda.empty_cache()
        except RuntimeError as error:  # the device is gone; the next pass says so too
            log.warning("the GPU's memory cannot be freed: %s", first_line(error))


def _find_middle(items: Sequence[Item], image_of: Callable[[Item], object]) -> int:
    """Where the second half begins: at the border of two images, if there are two."""
    borders = [
        place
        for place in range(1, len(items))
        if image_of(items[place]) is not image_of(items[place - 1])
    ]
    places = borders or range(1, len(items))
    return min(places, key=lambda place: abs(2 * place - len(items)))
