"""CG-VLM's alignment over a whole batch, where that is computed in rounds.

Every caption of the batch is a negative of every image, and a round holds a few of them. So each
round is computed twice, as GradCache does (arXiv 2101.06983): the first time, without gradients,
for its directions alone; from those of all rounds and workers follow the batch's loss and the
loss's gradient by each direction; the second time the round's loss is the linear function of its
directions that has this value and this gradient. The learnt weights' gradients are those of the
whole batch, and what is kept of a round is two vectors an image.

Shapes: B images of a round, N of all this worker's rounds, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from c3l_ray.train.learning import losses

Aligned = tuple[Tensor, Tensor, Tensor]
Align = Callable[[Tensor, Tensor, Tensor, Tensor], Aligned]
"""`losses.two_sided`, or what stands in its place for a round."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """What the first pass finds in a round.

    Attributes:
        image_BD: mean directions of the images' windows.
        text_BD: of their captions' tokens.
        weight_B: 0 for an image that only fills its place.
        temperature: the same in all rounds.
    """

    image_BD: Tensor
    text_BD: Tensor
    weight_B: Tensor
    temperature: Tensor


def kept_in(rounds: list[Round]) -> Align:
    """An alignment for the first pass: it adds what it is given to these, and loses nothing."""

    def keep(image_BD: Tensor, text_BD: Tensor, weight_B: Tensor, temperature: Tensor) -> Aligned:
        rounds.append(
            Round(image_BD=image_BD, text_BD=text_BD, weight_B=weight_B, temperature=temperature)
        )
        nothing_B = torch.zeros_like(weight_B)
        return nothing_B, nothing_B, nothing_B

    return keep


def of_rounds(rounds: Sequence[Round]) -> list[Align]:
    """The alignment of each round for the second pass. All workers come here together."""
    image_ND = torch.cat([each.image_BD for each in rounds]).requires_grad_()
    text_ND = torch.cat([each.text_BD for each in rounds]).requires_grad_()
    weight_N = torch.cat([each.weight_B for each in rounds])
    temperature = rounds[0].temperature.clone().requires_grad_()
    with torch.enable_grad():
        aligned = losses.two_sided(image_ND, text_ND, weight_N, temperature)
        gradients = torch.autograd.grad(
            (aligned[0] * weight_N).sum(), (image_ND, text_ND, temperature)
        )
    by_image_ND, by_text_ND, by_temperature = gradients
    # It belongs to no image: each takes the same part of it.
    by_temperature = by_temperature / weight_N.sum().clamp(min=1)
    of_images = [values_N.detach() for values_N in (*aligned, by_image_ND, by_text_ND)]
    by_round = zip(
        *(values_N.split(len(rounds[0].weight_B)) for values_N in of_images), strict=True
    )
    return [_linear(one_round, by_temperature) for one_round in by_round]


def _linear(one_round: Sequence[Tensor], by_temperature: Tensor) -> Align:
    """An alignment of a value and with gradients that are known, whatever it is given.

    Args:
        one_round: loss and similarities [B], and the batch's gradients by image and text [B, D].
        by_temperature: the gradient that each image takes of it.
    """
    loss_B, own_B, others_B, by_image_BD, by_text_BD = one_round

    def align(image_BD: Tensor, text_BD: Tensor, _: Tensor, temperature: Tensor) -> Aligned:
        moved_B = (
            (_moved(image_BD) * by_image_BD).sum(dim=1)
            + (_moved(text_BD) * by_text_BD).sum(dim=1)
            + _moved(temperature) * by_temperature
        )
        return loss_B + moved_B, own_B, others_B

    return align


def _moved(values: Tensor) -> Tensor:
    """Zero, with the gradient of the values."""
    return values - values.detach()
