"""Logits only where there is a loss, against the model's own forward pass with all of them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from c3l_ray.inference.logit_transform import LogitTransform
from c3l_ray.train.learning import output_head
from c3l_ray.train.learning.learner import Learner
from c3l_ray.train.learning.loading import load_learner, trainable_parameters
from c3l_ray.train.objectives import Contrast
from c3l_ray.train.reading.batches import MicroBatch, model_inputs
from tests.train.learning.builders import CPU, SHIPPED_MODEL, encode_scenes
from tests.train.records import MakeTrainConfig


def compute_plainly(learner: Learner, micro_batch: MicroBatch) -> Tensor:
    """The mean -ln p of the positive's targets, from all logits of the model's own forward pass."""
    logits_RTV = learner.model(**model_inputs(micro_batch)).logits
    target_RT = micro_batch["target_RT"]
    nll_RT = F.cross_entropy(
        logits_RTV[:, :-1].transpose(1, 2), micro_batch["input_ids"][:, 1:], reduction="none"
    )
    nll_R = (nll_RT * target_RT[:, 1:]).sum(dim=1) / target_RT.sum(dim=1).clamp(min=1)
    return nll_R[micro_batch["positive_B"]].sum()


def compute_gradients(learner: Learner, loss: Tensor) -> list[Tensor]:
    loss.backward()
    weights = [weight for _, weight in trainable_parameters(learner) if weight.grad is not None]
    gradients = [weight.grad.clone() for weight in weights if weight.grad is not None]
    learner.zero_grad()
    return gradients


def cap_logits(learner: Learner, change: Callable[[Tensor], Tensor]) -> None:
    """Makes the model change its logits after the output head, as some families do."""
    vlm: Any = learner.head.vlm
    forward = vlm.forward

    def forward_and_change(*args: Any, **inputs: Any) -> Any:
        output = forward(*args, **inputs)
        output.logits = change(output.logits)
        return output

    vlm.forward = forward_and_change


@pytest.mark.parametrize("tune", ["lora", "full"])
@pytest.mark.parametrize("chunk", [2**25, 4096 * 7])
@pytest.mark.parametrize("after_the_head", ["nothing", "declared", "undeclared"])
def test_loss_and_gradients_are_those_of_all_logits(
    train_config: MakeTrainConfig,
    monkeypatch: pytest.MonkeyPatch,
    tune: Any,
    chunk: int,
    after_the_head: str,
) -> None:
    monkeypatch.setattr(output_head, "MAX_LOGITS", chunk)
    config = train_config(
        contrast=Contrast(similarity="likelihood", nll_weight=1.0),
        model=dataclasses.replace(SHIPPED_MODEL, tune=tune),
    )
    learner = load_learner(config, torch.float32, CPU).train()
    if after_the_head == "declared":
        learner.head.vlm.config.get_text_config().final_logit_softcapping = 3.0
    if after_the_head != "nothing":
        cap_logits(learner, lambda logits: 3 * torch.tanh(logits / 3))
    micro_batch = encode_scenes(config, 0, 1)
    expected = compute_plainly(learner, micro_batch)
    expected_gradients = compute_gradients(learner, expected)
    nll = learner(micro_batch)["nll"]
    has_transform = after_the_head != "undeclared"
    assert (learner.head.transform is not None) == has_transform
    if after_the_head == "declared":
        assert learner.head.transform == LogitTransform(cap=3.0)
    assert nll.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = compute_gradients(learner, nll)
    largest = max(grad.abs().max().item() for grad in expected_gradients)
    for grad, expected_grad in zip(gradients, expected_gradients, strict=True):
        assert (grad - expected_grad).abs().max() < 1e-4 * largest


def test_no_more_logits_are_held_than_a_chunk(
    train_config: MakeTrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of logits that the head computes at once, and those kept for the backward pass."""
    num_tokens = 7
    config = train_config(contrast=Contrast(similarity="likelihood"))
    learner = load_learner(config, torch.float32, CPU).train()
    vocabulary = len(learner.head.vlm.get_output_embeddings().weight)
    monkeypatch.setattr(output_head, "MAX_LOGITS", num_tokens * vocabulary)
    micro_batch = encode_scenes(config, 0, 1)
    learner(micro_batch)  # the first finds the transform
    computed: list[int] = []
    kept: list[torch.Size] = []
    learner.head.vlm.get_output_embeddings().register_forward_hook(
        lambda _head, _inputs, output: computed.append(output.numel() // vocabulary)
    )

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        learner(micro_batch)["loss"]
    num_targets = int(micro_batch["target_RT"].sum())
    assert sum(computed) == num_targets and max(computed) == num_tokens
    assert not any(vocabulary in shape[1:] for shape in kept)
