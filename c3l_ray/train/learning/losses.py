"""The objectives' losses, as functions of tensors.

Shapes: B anchors (one an image), R texts of all images, T tokens, D width, K windows of patches, L
tokens of a caption, N images of all workers, or tokens of all texts.
"""

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import Tensor
from torch.nn import functional as F

from c3l_ray.train.objectives import PairLoss


def info_nce(
    similarity_BR: Tensor, positive_B: Tensor, allowed_BR: Tensor, temperature: float
) -> Tensor:
    """Each anchor's contrastive loss [B].

    -ln exp(s_+ / tau) / sum_j exp(s_j / tau), the sum over the positive and the negatives. Cosines
    as similarities and tau = 0.2 follow a community reproduction of C3L (arXiv 2405.12752), whose
    equation is not public.

    Args:
        similarity_BR: of the anchors with the turns.
        positive_B: the number of each anchor's positive turn.
        allowed_BR: the turns in each anchor's sum.
        temperature: tau.
    """
    logits_BR = (similarity_BR / temperature).masked_fill(~allowed_BR, -torch.inf)
    return F.cross_entropy(logits_BR, positive_B, reduction="none")


def prefer_best(gain_B: Tensor, kind: PairLoss, beta: float) -> Tensor:
    """The loss on the best answer against the worst [B].

    Of h, the margin's gain: dpo is -ln sigmoid(beta h) (arXiv 2305.18290, equation 7), and ipo is
    (h - 1 / (2 beta))^2 (arXiv 2310.12036, equation 17), which does not push h without end.

    Args:
        gain_B: (ln p - ln p0)(best) - (ln p - ln p0)(worst), sums over an answer's tokens; p0 is
            the model that training began with.
        kind: of loss.
        beta: strength.
    """
    if kind == "ipo":
        return (gain_B - 1 / (2 * beta)) ** 2
    return -F.logsigmoid(beta * gain_B)


def cosine_similarity(anchor_BD: Tensor, turn_RD: Tensor) -> Tensor:
    """The cosine of each anchor with each turn, [B, R]."""
    return F.normalize(anchor_BD, dim=-1) @ F.normalize(turn_RD, dim=-1).T


def mean_by_text(values_ND: Tensor, text_N: Tensor, weight_RT: Tensor) -> Tensor:
    """Each text's weighted mean over its tokens, [R, D]; 0 for a text without any.

    Args:
        values_ND: of the tokens with a weight other than 0, in their order.
        text_N: the text of each.
        weight_RT: of all tokens.
    """
    weight_RT = weight_RT.to(values_ND.dtype)
    weight_N = weight_RT[weight_RT != 0] / weight_RT.sum(dim=1).clamp(min=1e-9)[text_N]
    token_N = torch.arange(len(text_N), device=text_N.device)
    # A product of matrices adds in the same order every time, which index_add does not on GPUs.
    weight_RN = weight_N.new_zeros(len(weight_RT), len(text_N)).index_put(
        (text_N, token_N), weight_N
    )
    return weight_RN @ values_ND


def mean_direction(features_KD: Tensor) -> Tensor:
    """The mean of the unit vectors, [D].

    The average of all K x L cosines of two sets is the inner product of their mean directions, so
    CG-VLM's averaged similarity (arXiv 2311.17945) needs no K x L tensor.
    """
    return F.normalize(features_KD, dim=-1).mean(dim=0)


def pool_windows(patch_PD: Tensor, num_windows: int) -> Tensor:
    """Patches averaged over windows [K, D]: of their grid where it and K are square, else of runs.

    Averaging before the normalisation is what makes windows matter. Fewer patches than windows are
    returned as they are.
    """
    num_patches, width = patch_PD.shape
    if num_patches <= num_windows:
        return patch_PD
    side, side_K = round(num_patches**0.5), round(num_windows**0.5)
    if side**2 == num_patches and side_K**2 == num_windows:
        grid_1DSS = patch_PD.T.reshape(1, width, side, side)
        return F.adaptive_avg_pool2d(grid_1DSS, side_K).reshape(width, num_windows).T
    return F.adaptive_avg_pool1d(patch_PD.T.unsqueeze(0), num_windows)[0].T


def two_sided_alignment(
    image_BD: Tensor, text_BD: Tensor, weight_B: Tensor, temperature: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The alignment loss of each of this worker's images [B], and two mean similarities of each.

    -(1/2) [ln softmax_j(S(I_i, T_j) / tau) at j = i + ln softmax_j(S(I_j, T_i) / tau) at j = i],
    where j goes over the images of all workers (CG-VLM, our reading). The sum over all workers'
    images is the whole loss: each computes its own rows and columns, and gradients flow through the
    gathered features.

    Args:
        image_BD: mean directions of the images' windows.
        text_BD: of their captions' tokens.
        weight_B: 0 for an image that only fills its place.
        temperature: tau, a scalar.

    Returns:
        The loss, the similarity with the own caption, the mean one with the others'.
    """
    image_ND, text_ND, weight_N = (
        gather_workers(image_BD),
        gather_workers(text_BD),
        gather_workers(weight_B),
    )
    first = len(weight_B) * (dist.get_rank() if dist.is_initialized() else 0)
    number_B = torch.arange(len(weight_B), device=weight_B.device)
    absent_N = weight_N == 0
    # A place that is only filled must stay its own column, or its loss would be infinite.
    blocked_BN = absent_N.unsqueeze(0).repeat(len(weight_B), 1)
    blocked_BN[number_B, number_B + first] = False
    rows_BN, columns_BN = image_BD @ text_ND.T, text_BD @ image_ND.T
    loss_B = sum(
        F.cross_entropy(
            (similarity_BN / temperature).masked_fill(blocked_BN, -torch.inf),
            number_B + first,
            reduction="none",
        )
        for similarity_BN in (rows_BN, columns_BN)
    )
    assert isinstance(loss_B, Tensor)
    own_similarity_B = rows_BN[number_B, number_B + first]
    other_sum_B = (rows_BN * ~absent_N).sum(dim=1) - own_similarity_B
    return 0.5 * loss_B, own_similarity_B, other_sum_B / (weight_N.sum() - 1).clamp(min=1)


def gather_workers(values_B: Tensor) -> Tensor:
    """The workers' tensors of one shape, joined in the order of their ranks, with gradients."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return values_B
    return torch.cat(dist_nn.all_gather(values_B.contiguous()))
