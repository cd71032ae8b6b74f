"""The model that training begins with, inside the one that is tuned: its LoRA switched off."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def without_lora(model: nn.Module) -> Iterator[None]:
    """Inside, the model computes what it does without its LoRA matrices, and no gradients.

    peft's own `disable_adapter` also marks the matrices as weights that do not learn, and back, at
    each micro-batch; here nothing changes but the switch.

    Raises:
        RuntimeError: the model has no LoRA matrices, or they cannot be switched off.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    try:
        for layer in layers:
            layer._disable_adapters = True
        is_off = all(layer.disable_adapters and not layer.merged for layer in layers)
        if not layers or not is_off:
            raise RuntimeError("the model that training began with cannot be computed")
        with torch.no_grad():
            yield
    finally:
        for layer in layers:
            layer._disable_adapters = False
