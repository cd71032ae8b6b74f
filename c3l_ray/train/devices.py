"""What the GPUs of the workers are, asked of the cluster before a training begins."""

import ray
import ray.exceptions
import torch

DEVICE_TIMEOUT_S = 60


def find_device_bytes(gpus: float) -> int | None:
    """The memory of a worker's GPU, or of its part of one; None where there is none to ask.

    Args:
        gpus: of a worker.
    """
    if not gpus:
        return None
    read = ray.remote(num_gpus=gpus, num_cpus=0, max_retries=0)(_read_device_bytes)
    try:
        return int(min(1.0, gpus) * ray.get(read.remote(), timeout=DEVICE_TIMEOUT_S))
    except (ray.exceptions.RayError, TimeoutError):  # a GPU that is still to come is not asked
        return None


def _read_device_bytes() -> int:
    return torch.cuda.get_device_properties(0).total_memory


def count_gpus_of_largest_node() -> int:
    """The most GPUs that one node of the cluster has: an engine does not spread over several."""
    alive = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return max((int(resources.get("GPU", 0)) for resources in alive), default=0)
