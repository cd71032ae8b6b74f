"""A batch in rounds has the loss and the gradients of the batch as one."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c3l_ray.train.learning import losses, learner, batch_alignment
from c3l_ray.train.training_config import Alignment, Optimization, TrainConfig
from c3l_ray.train.learning.step import Optimizer
from tests.train.learning.test_losses import random
from tests.train.learning.test_step import CPU, TINY, gradients, shares_of

Make = Callable[..., TrainConfig]
BATCH_SIZE = 5


@given(
    st.integers(0, 1000), st.lists(st.booleans(), min_size=6, max_size=6), st.sampled_from([2, 3])
)
@settings(deadline=None)
def test_rounds_have_the_losses_and_gradients_of_the_whole(
    seed: int, present: list[bool], size: int
) -> None:
    weight_N = torch.tensor(present, dtype=torch.float64)

    def inputs() -> list[torch.Tensor]:
        temperature = torch.tensor([0.1], dtype=torch.float64)
        given = (random(seed, 6, 4), random(seed + 1, 6, 4), temperature)
        return [each.requires_grad_() for each in given]

    image_ND, text_ND, temperature = expected = inputs()
    aligned = losses.two_sided(image_ND, text_ND, weight_N, temperature)
    (aligned[0] * weight_N).sum().backward()

    image_ND, text_ND, temperature = found = inputs()
    by_round = list(zip(*(each.split(size) for each in (image_ND, text_ND, weight_N)), strict=True))
    kept: list[batch_alignment.Round] = []
    with torch.no_grad():
        for each in by_round:
            batch_alignment.kept_in(kept)(*each, temperature)
    for place, align in enumerate(batch_alignment.of_rounds(kept)):
        ours = align(*by_round[place], temperature)
        for one, other in zip(ours, aligned, strict=True):
            assert torch.allclose(one, other[place * size :][:size])
        (ours[0] * by_round[place][2]).sum().backward()
    for one, other in zip(found, expected, strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.allclose(one.grad, other.grad)


def optimizer_of(make: Make, micro_batch: int, negatives: Any = "batch", **more: Any) -> Optimizer:
    config = make(
        objective="cgvlm",
        optim=Optimization(batch_size=BATCH_SIZE, micro_batch=micro_batch),
        alignment=Alignment(negatives=negatives),
        **more,
    )
    return Optimizer(config, 10, CPU)


@pytest.mark.parametrize(
    ("micro_batch", "negatives", "same"),
    [(1, "batch", True), (2, "batch", True), (2, "micro-batch", False)],
)
def test_only_the_whole_batchs_negatives_make_rounds_free(
    train_config: Make, micro_batch: int, negatives: str, same: bool
) -> None:
    """Two in a round: the third round has one image, and one that only fills its place."""
    in_one = optimizer_of(train_config, BATCH_SIZE)
    in_rounds = optimizer_of(train_config, micro_batch, negatives)
    whole_batch, rounds = (shares_of(each.config, 0) for each in (in_one, in_rounds))
    assert (len(whole_batch), len(rounds)) == (1, -(-BATCH_SIZE // micro_batch))
    expected, found = gradients(in_one, whole_batch), gradients(in_rounds, rounds)
    largest = max(grad.abs().max().item() for grad in expected.values())
    close = [torch.allclose(found[n], expected[n], rtol=0, atol=1e-5 * largest) for n in expected]
    assert all(close) == same

    theirs, ours = in_one.evaluate([whole_batch]), in_rounds.evaluate([rounds])
    assert (ours == pytest.approx(theirs, rel=1e-5)) == same


def test_the_second_pass_draws_the_numbers_that_the_first_did(train_config: Make) -> None:
    """So that it has the directions whose gradients were computed, whatever drops out of them."""
    lora = dataclasses.replace(TINY, tune="lora", lora_dropout=0.5)

    def nll(negatives: str, seed: int) -> float:
        optimizer = optimizer_of(train_config, 2, negatives, model=lora)
        for name, weight in learner.learning(optimizer.learner):
            if "lora_B" in name:  # 0 to begin with, and nothing could drop out
                torch.nn.init.ones_(weight)
        torch.manual_seed(seed)
        return optimizer.backward(shares_of(optimizer.config, 0))["nll"].item()

    one_pass = nll("micro-batch", 0)
    assert nll("batch", 0) == one_pass != nll("batch", 1)
