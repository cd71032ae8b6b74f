"""How far rounding alone moves what a model computes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def perturb_rounding(vlm: Any, seed: int) -> Iterator[None]:
    """Inside, what each layer with weights returns is moved at random by about one rounding.

    Results then differ by as much as those of two computations that only round differently. This
    measures what a model makes of its rounding, without a copy of it in float32.
    """

    generators: dict[torch.device, torch.Generator] = {}  # a model may lie on several devices

    def perturb(_layer: nn.Module, _inputs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return output
        device = output.device
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(seed)
        noise = torch.randn(output.shape, generator=generators[device], device=device)
        # A rounding is uniform in a step of eps / 2 to eps: its deviation is about eps / 4.
        return (output.float() * (1 + torch.finfo(output.dtype).eps / 4 * noise)).to(output.dtype)

    layers = [layer for layer in vlm.modules() if [*layer.parameters(recurse=False)]]
    hooks = [layer.register_forward_hook(perturb) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
