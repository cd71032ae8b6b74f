"""CG-VLM's alignment over a whole batch, where that is computed in several micro-batches.

Every caption of the batch is a negative of every image, and a micro-batch holds a few of them. So
each micro-batch is computed twice, as GradCache does (arXiv 2101.06983): the first time, without
gradients, for its directions alone; from those of all micro-batches and workers follow the batch's
loss and the loss's gradient by each direction; the second time the micro-batch's loss is the linear
function of its directions that has this value and this gradient. The learnt weights' gradients are
those of the whole batch, and what is kept of a micro-batch is two vectors an image.

Shapes: B images of a micro-batch, N of all this worker's micro-batches, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from c3l_ray.train.learning import losses

AlignmentTerms = tuple[Tensor, Tensor, Tensor]
"""The loss of each image, its similarity with its own caption, and the mean one with others [B]."""

Align = Callable[[Tensor, Tensor, Tensor, Tensor], AlignmentTerms]
"""`losses.two_sided_alignment`, or what takes its place for a micro-batch."""


@dataclass(frozen=True, kw_only=True)
class MicroBatchDirections:
    """What the first pass computes of a micro-batch.

    Attributes:
        image_BD: mean directions of the images' windows.
        text_BD: of their captions' tokens.
        weight_B: 0 for an image that only fills its place.
        temperature: the same in all micro-batches.
    """

    image_BD: Tensor
    text_BD: Tensor
    weight_B: Tensor
    temperature: Tensor


def record_into(directions: list[MicroBatchDirections]) -> Align:
    """An alignment for the first pass: it adds its arguments to a list, and its loss is zero."""

    def align(
        image_BD: Tensor, text_BD: Tensor, weight_B: Tensor, temperature: Tensor
    ) -> AlignmentTerms:
        directions.append(
            MicroBatchDirections(
                image_BD=image_BD, text_BD=text_BD, weight_B=weight_B, temperature=temperature
            )
        )
        zero_B = torch.zeros_like(weight_B)
        return zero_B, zero_B, zero_B

    return align


def alignments_per_micro_batch(directions: Sequence[MicroBatchDirections]) -> list[Align]:
    """The alignment of each micro-batch for the second pass. All workers call this together."""
    image_ND = torch.cat([micro_batch.image_BD for micro_batch in directions]).requires_grad_()
    text_ND = torch.cat([micro_batch.text_BD for micro_batch in directions]).requires_grad_()
    weight_N = torch.cat([micro_batch.weight_B for micro_batch in directions])
    temperature = directions[0].temperature.clone().requires_grad_()
    with torch.enable_grad():
        terms = losses.two_sided_alignment(image_ND, text_ND, weight_N, temperature)
        gradients = torch.autograd.grad(
            (terms[0] * weight_N).sum(), (image_ND, text_ND, temperature)
        )
    image_grad_ND, text_grad_ND, temperature_grad = gradients
    # The temperature belongs to no image: each takes the same part of its gradient.
    temperature_grad = temperature_grad / weight_N.sum().clamp(min=1)
    size = len(directions[0].weight_B)
    split_values = [
        values_N.detach().split(size) for values_N in (*terms, image_grad_ND, text_grad_ND)
    ]
    return [_make_linear(values, temperature_grad) for values in zip(*split_values, strict=True)]


def _make_linear(values: Sequence[Tensor], temperature_grad: Tensor) -> Align:
    """An alignment whose value and gradients are known, whatever its arguments.

    Args:
        values: of a micro-batch: loss and similarities [B], and the batch's gradients by image and
            text [B, D].
        temperature_grad: the gradient by the temperature that each image takes.
    """
    loss_B, own_similarity_B, other_similarity_B, image_grad_BD, text_grad_BD = values

    def align(
        image_BD: Tensor, text_BD: Tensor, weight_B: Tensor, temperature: Tensor
    ) -> AlignmentTerms:
        zero_B = (
            (zero_with_gradient(image_BD) * image_grad_BD).sum(dim=1)
            + (zero_with_gradient(text_BD) * text_grad_BD).sum(dim=1)
            + zero_with_gradient(temperature) * temperature_grad
        )
        return loss_B + zero_B, own_similarity_B, other_similarity_B

    return align


def zero_with_gradient(values: Tensor) -> Tensor:
    """Zero, with the gradient of the values."""
    return values - values.detach()
