"""What a processor makes of texts and images, and how inputs of several rows become those of all.

Tensor names carry shapes: B rows, T tokens of a row.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# What a processor returns for each token; everything else belongs to the images.
TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")

ModelInputs = dict[str, Tensor]


def select_image_inputs(inputs: ModelInputs) -> ModelInputs:
    """What a processor returned that belongs to the images and not to the tokens."""
    return {name: values for name, values in inputs.items() if name not in TOKEN_INPUTS}


def collate_rows(rows: Iterable[ModelInputs]) -> ModelInputs:
    """Inputs of one row each as inputs of them all, padded on the right and with zeros."""
    rows = list(rows)
    return {name: _concatenate_padded([row[name] for row in rows]) for name in rows[0]}


def _concatenate_padded(tensors: list[Tensor]) -> Tensor:
    """Tensors along their first axis, the other axes padded with zeros to the longest."""
    sizes = [max(tensor.shape[axis] for tensor in tensors) for axis in range(1, tensors[0].dim())]
    if all(list(tensor.shape[1:]) == sizes for tensor in tensors):
        return torch.cat(tensors)
    padded = tensors[0].new_zeros(sum(len(tensor) for tensor in tensors), *sizes)
    first = 0
    for tensor in tensors:
        inner = (slice(size) for size in tensor.shape[1:])
        padded[(slice(first, first + len(tensor)), *inner)] = tensor
        first += len(tensor)
    return padded


def move_values(values: Any, device: str, dtype: torch.dtype) -> Any:
    """Tensors on the device, the floating ones in the model's precision."""
    if isinstance(values, dict):
        return {name: move_values(tensor, device, dtype) for name, tensor in values.items()}
    if values.is_floating_point():
        return values.to(device, dtype)
    return values.to(device)
