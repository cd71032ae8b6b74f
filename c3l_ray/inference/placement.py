"""Where a scoring model's weights lie: on one device, or layer by layer on several GPUs."""

from typing import Any

import torch

from c3l_ray.errors import PreflightError

OFF_THE_GPUS = ("cpu", "disk", "meta")


def choose_device_map() -> str | None:
    """How transformers is to place a model: "auto" where this process has several GPUs."""
    return "auto" if torch.cuda.device_count() > 1 else None


def check_placement(name: str, device_map: dict[str, Any]) -> None:
    """Refuses a model that the GPUs of this process do not hold.

    Args:
        name: of the model.
        device_map: where transformers has put its parts.

    Raises:
        PreflightError: a part lies elsewhere.
    """
    num_parts = sum(str(device).startswith(OFF_THE_GPUS) for device in device_map.values())
    if num_parts:
        raise PreflightError(
            f"--scorer.name {name}: {num_parts} of its {len(device_map)} parts do not fit into "
            f"the {torch.cuda.device_count()} GPUs of a scorer; give each more with "
            f"--pools.scorer-gpus"
        )
