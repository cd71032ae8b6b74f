"""What logits say of given tokens: the fields of `AnswerEvidence`, as tensors.

Tensor names carry shapes: N tokens, D the model's width, V vocabulary.
"""

from collections.abc import Callable

from torch import Tensor


def measure_tokens(
    compute_logits: Callable[[Tensor], Tensor], image_ND: Tensor, text_ND: Tensor, ids_N: Tensor
) -> dict[str, Tensor]:
    """The fields of `AnswerEvidence` for these tokens but the posed side's, [N] each.

    Args:
        compute_logits: turns hidden states [N, D] into logits [N, V] in float32.
        image_ND: the hidden states that predict the tokens with the image.
        text_ND: the same without it.
        ids_N: the tokens.
    """
    image_NV, text_NV = compute_logits(image_ND), compute_logits(text_ND)
    ids_N = ids_N.to(image_NV.device)
    image_logits_N, text_logits_N = (gather_tokens(side, ids_N) for side in (image_NV, text_NV))
    image_top1_N, text_top1_N = (side.argmax(-1) == ids_N for side in (image_NV, text_NV))
    image_NV, text_NV = image_NV.log_softmax(-1), text_NV.log_softmax(-1)
    image_N, text_N = (gather_tokens(side, ids_N) for side in (image_NV, text_NV))
    # in place: the vocabulary is what costs memory here
    kl_N = (text_NV.neg_().add_(image_NV).mul_(image_NV.exp_())).sum(-1)
    return {
        "image_logprobs": image_N,
        "text_logprobs": text_N,
        "image_logits": image_logits_N,
        "text_logits": text_logits_N,
        "top1_with_image": image_top1_N,
        "top1_without_image": text_top1_N,
        "token_kl": kl_N.clamp(min=0),
    }


def gather_tokens(values_NV: Tensor, ids_N: Tensor) -> Tensor:
    """The value of each place's token, [N]."""
    return values_NV.gather(-1, ids_N.to(values_NV.device).unsqueeze(-1)).squeeze(-1)
