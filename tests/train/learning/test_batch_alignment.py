"""A batch in micro-batches has the loss and the gradients of the batch as one."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c3l_ray.train.learning import batch_alignment, losses
from c3l_ray.train.learning.batch_alignment import MicroBatchDirections
from c3l_ray.train.learning.loading import trainable_parameters
from c3l_ray.train.learning.trainer import Trainer
from c3l_ray.train.objectives import Alignment
from c3l_ray.train.training_config import Optimization
from tests.train.learning.builders import (
    CPU,
    SHIPPED_MODEL,
    compute_gradients,
    make_batch,
    random_tensor,
)
from tests.train.records import MakeTrainConfig

BATCH_SIZE = 5


@given(
    st.integers(0, 1000), st.lists(st.booleans(), min_size=6, max_size=6), st.sampled_from([2, 3])
)
@settings(deadline=None)
def test_micro_batches_have_the_losses_and_gradients_of_the_batch(
    seed: int, is_present: list[bool], size: int
) -> None:
    weight_N = torch.tensor(is_present, dtype=torch.float64)

    def make_inputs() -> list[torch.Tensor]:
        temperature = torch.tensor([0.1], dtype=torch.float64)
        inputs = (random_tensor(seed, 6, 4), random_tensor(seed + 1, 6, 4), temperature)
        return [values.requires_grad_() for values in inputs]

    image_ND, text_ND, temperature = expected_inputs = make_inputs()
    expected_terms = losses.two_sided_alignment(image_ND, text_ND, weight_N, temperature)
    (expected_terms[0] * weight_N).sum().backward()

    image_ND, text_ND, temperature = inputs = make_inputs()
    split_inputs = [values_N.split(size) for values_N in (image_ND, text_ND, weight_N)]
    micro_batches = list(zip(*split_inputs, strict=True))
    directions: list[MicroBatchDirections] = []
    with torch.no_grad():
        for micro_batch in micro_batches:
            image_BD, text_BD, weight_B = micro_batch
            batch_alignment.record_into(directions)(image_BD, text_BD, weight_B, temperature)
    alignments = batch_alignment.alignments_per_micro_batch(directions)
    for number, (micro_batch, align) in enumerate(zip(micro_batches, alignments, strict=True)):
        image_BD, text_BD, weight_B = micro_batch
        terms = align(image_BD, text_BD, weight_B, temperature)
        for term_B, expected_N in zip(terms, expected_terms, strict=True):
            assert torch.allclose(term_B, expected_N[number * size :][:size])
        (terms[0] * weight_B).sum().backward()
    for values, expected in zip(inputs, expected_inputs, strict=True):
        assert values.grad is not None and expected.grad is not None
        assert torch.allclose(values.grad, expected.grad)


def make_trainer(
    train_config: MakeTrainConfig, micro_batch: int, negatives: Any = "batch", **changed: Any
) -> Trainer:
    config = train_config(
        objective="cgvlm",
        optim=Optimization(batch_size=BATCH_SIZE, micro_batch=micro_batch),
        alignment=Alignment(negatives=negatives),
        **changed,
    )
    return Trainer(config, 10, CPU)


@pytest.mark.parametrize(
    ("micro_batch", "negatives", "is_same"),
    [(1, "batch", True), (2, "batch", True), (2, "micro-batch", False)],
)
def test_only_negatives_of_the_whole_batch_make_micro_batches_free(
    train_config: MakeTrainConfig, micro_batch: int, negatives: str, is_same: bool
) -> None:
    """Two in a micro-batch: the third one has one image, and one that only fills its place."""
    whole_trainer = make_trainer(train_config, BATCH_SIZE)
    trainer = make_trainer(train_config, micro_batch, negatives)
    whole_batch, batch = (make_batch(one.config, 0) for one in (whole_trainer, trainer))
    assert (len(whole_batch), len(batch)) == (1, -(-BATCH_SIZE // micro_batch))
    expected = compute_gradients(whole_trainer, whole_batch)
    gradients = compute_gradients(trainer, batch)
    largest = max(grad.abs().max().item() for grad in expected.values())
    is_close = [
        torch.allclose(gradients[name], expected[name], rtol=0, atol=1e-5 * largest)
        for name in expected
    ]
    assert all(is_close) == is_same

    expected_means = whole_trainer.evaluate([whole_batch])
    means = trainer.evaluate([batch])
    assert (means == pytest.approx(expected_means, rel=1e-5)) == is_same


def test_the_second_pass_draws_the_random_numbers_of_the_first(
    train_config: MakeTrainConfig,
) -> None:
    """So that it has the directions whose gradients were computed, whatever drops out of them."""
    lora = dataclasses.replace(SHIPPED_MODEL, tune="lora", lora_dropout=0.5)

    def compute_nll(negatives: str, seed: int) -> float:
        trainer = make_trainer(train_config, 2, negatives, model=lora)
        for name, parameter in trainable_parameters(trainer.learner):
            if "lora_B" in name:  # 0 to begin with, and nothing could drop out
                torch.nn.init.ones_(parameter)
        torch.manual_seed(seed)
        return trainer.backward(make_batch(trainer.config, 0))["nll"].item()

    nll_of_one_pass = compute_nll("micro-batch", 0)
    assert compute_nll("batch", 0) == nll_of_one_pass != compute_nll("batch", 1)
