"""What the GPUs of the cluster are, asked of one of them before a job begins."""

import dataclasses
from dataclasses import dataclass

import ray
import ray.exceptions

DEVICE_TIMEOUT_S = 60


@dataclass(frozen=True, kw_only=True)
class Device:
    """A worker's GPU, or its part of one.

    Attributes:
        memory: in bytes.
        has_bfloat16: whether it computes in bfloat16.
    """

    memory: int
    has_bfloat16: bool


def find_device(gpus: float) -> Device | None:
    """The GPU of a worker; None where there is none to ask.

    Args:
        gpus: of a worker.
    """
    whole = ask_gpu(gpus) if gpus else None
    if whole is None:
        return None
    return dataclasses.replace(whole, memory=int(min(1.0, gpus) * whole.memory))


def ask_gpu(gpus: float) -> Device | None:
    """A whole GPU of the cluster, asked by a task that takes so many; None where none tells."""
    read = ray.remote(num_gpus=gpus, num_cpus=0, max_retries=0)(_read_device)
    try:
        memory, has_bfloat16 = ray.get(read.remote(), timeout=DEVICE_TIMEOUT_S)
    except (ray.exceptions.RayError, TimeoutError):  # a GPU that is still to come is not asked
        return None
    return Device(memory=memory, has_bfloat16=has_bfloat16)


def _read_device() -> tuple[int, bool]:
    import torch  # seconds, which the processes that import this module do without

    memory = torch.cuda.get_device_properties(0).total_memory
    return memory, torch.cuda.is_bf16_supported()


def count_gpus_of_largest_node() -> int:
    """The most GPUs that one node of the cluster has: a model does not spread over several."""
    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return max((int(resources.get("GPU", 0)) for resources in alive), default=0)
