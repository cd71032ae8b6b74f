"""What is proved of shared prefixes on the first image of a run, before it learns from any other.

A wrong gradient looks like a right one, so the losses and the gradients of the image's texts in one
row are compared with those of each text in a row of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from c3l_ray.errors import first_line
from c3l_ray.inference.pack_attention import PackAttention
from c3l_ray.inference.packing import PackingError
from c3l_ray.inference.rounding import perturb_rounding
from c3l_ray.train.learning.learner import Learner
from c3l_ray.train.learning.shared_rows import select_texts, share_prefixes
from c3l_ray.train.reading.batches import MicroBatch

Forward = Callable[[MicroBatch], dict[str, Tensor]]
"""The learner's forward pass as its workers compute it together."""

# The largest differences that rounding explains in float32: of a loss, relative where it is above
# 1; and of the vector of the gradients' norms, relative. For the shipped LLaVA and the tiny
# checkpoints of eight families the latter was at most 1e-6.
ROUNDING = 1e-3
# In half precision, the losses' mean difference is also at most this many times their mean change
# by `perturb_rounding`, and the gradients' norms differ by at most so much.
ROUNDINGS = 3.0
GRADIENT_ROUNDING_IN_HALF = 0.1
NUM_PERTURBATIONS = 4


def find_shared_attention(
    learner: Learner, forward: Forward, micro_batch: MicroBatch, *, is_half: bool
) -> tuple[PackAttention | None, str | None]:
    """The attention with which the learner's texts may share prefixes, or why they may not.

    All workers call this together, and all get one answer. Gradients are left at zero, random
    numbers as they were.

    Args:
        learner: whose texts have rows of their own.
        forward: of the learner.
        micro_batch: the first of the run, on the learner's device.
        is_half: whether the model computes in half precision.

    Returns:
        None and None where an image has one text, so that there is nothing to share.
    """
    num_texts_B = micro_batch["owner_R"].bincount()
    if not all_workers_agree(int(num_texts_B.max()) > 1, num_texts_B.device):
        return None, None
    reason, attention = None, None
    try:
        attention = PackAttention(learner.head.vlm.config)
        micro_batch = select_texts(micro_batch, int(num_texts_B.argmax()), learner.image_token)
        # An image that only fills its place proves as much, once it has a loss.
        micro_batch["weight_B"] = torch.ones_like(micro_batch["weight_B"])
        share_prefixes(micro_batch, learner.head.vlm, attention, learner.image_token)
    except (PackingError, TypeError, ValueError, RuntimeError) as error:
        reason = first_line(error)
    if all_workers_agree(reason is None, num_texts_B.device):
        assert attention is not None
        try:
            reason = _explain_difference(learner, forward, micro_batch, attention, is_half=is_half)
        except (TypeError, ValueError, RuntimeError) as error:  # the model's own code, for all
            reason = first_line(error)
    learner.attention = None
    learner.zero_grad()
    if all_workers_agree(reason is None, num_texts_B.device):
        return attention, None
    return None, reason or "another worker found a difference"


def all_workers_agree(is_so: bool, device: torch.device) -> bool:
    """Whether something holds on all workers."""
    if not dist.is_initialized():
        return is_so
    answer = torch.tensor(int(is_so), device=device)
    dist.all_reduce(answer, dist.ReduceOp.MIN)
    return bool(answer)


def _explain_difference(
    learner: Learner,
    forward: Forward,
    micro_batch: MicroBatch,
    attention: PackAttention,
    *,
    is_half: bool,
) -> str | None:
    """How shared prefixes differ from rows of their own beyond rounding, or None."""
    device = micro_batch["input_ids"].device
    measured = []
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        _without_dropout(learner),
    ):
        for choice in (None, attention):
            learner.attention = choice
            learner.zero_grad()
            sums = forward(micro_batch)
            sums["loss"].backward()
            measured.append((_losses(learner, sums), _gradient_norms(learner.parameters())))
        (plain_L, plain_norms), (shared_L, shared_norms) = measured
        difference = float(_relative(shared_L, plain_L).max())
        norm_difference = float((shared_norms - plain_norms).norm() / plain_norms.norm())
        largest_norm_difference = GRADIENT_ROUNDING_IN_HALF if is_half else ROUNDING
        if not norm_difference <= largest_norm_difference:  # a difference may be NaN
            return f"its gradients would differ by {norm_difference:.2g} of their norm"
        if not is_half:
            if not difference <= ROUNDING:
                return f"its losses would differ by {difference:.2g}"
            return None
        learner.attention = None
        changes = []
        for seed in range(NUM_PERTURBATIONS):
            with torch.no_grad(), perturb_rounding(learner.head.vlm, seed):
                changes.append(_relative(_losses(learner, forward(micro_batch)), plain_L).mean())
        mean, rounding = float(_relative(shared_L, plain_L).mean()), float(sum(changes))
        rounding /= NUM_PERTURBATIONS
        if not mean <= max(ROUNDING, ROUNDINGS * rounding):
            return f"its losses would differ by {mean:.2g}, and rounding explains {rounding:.2g}"
    return None


@contextmanager
def _without_dropout(learner: Learner) -> Iterator[None]:
    """Inside, the learner trains, with activations computed twice or not, and drops nothing."""
    learner.train()
    for module in learner.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    try:
        yield
    finally:
        learner.train()


def _losses(learner: Learner, sums: dict[str, Tensor]) -> Tensor:
    # Rounding turns a pair of answers that are about as likely round.
    names = [name for name in learner.sum_names if name != "pair_accuracy"]
    return torch.stack([sums[name].detach().double() for name in names])


def _relative(values: Tensor, reference: Tensor) -> Tensor:
    """The differences of values, relative where these are above 1."""
    return (values - reference).abs() / reference.abs().clamp(min=1)


def _gradient_norms(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The norm of the gradient by each weight that has one."""
    norms: Sequence[Tensor] = [
        weight.grad.norm() for weight in parameters if weight.grad is not None
    ]
    return torch.stack(
        [(norm.full_tensor() if isinstance(norm, DTensor) else norm).double() for norm in norms]
    )
