"""The loss of answers and its gradient, against sums by hand over the bare model's logits."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from c3l_ray.methods.answers import AnswerPair, choose_pair
from c3l_ray.scenes import world
from c3l_ray.train.learning.learner import Learner
from c3l_ray.train.learning.loading import load_learner, trainable_parameters
from c3l_ray.train.learning.reference import without_lora
from c3l_ray.train.objectives import Answers
from c3l_ray.train.reading.batches import MicroBatch, model_inputs
from c3l_ray.train.reading.encode import encode_batch, load_processor
from c3l_ray.train.reading.mixture import TurnDraw
from c3l_ray.train.training_config import TrainConfig
from tests.train.learning.builders import CPU, SHIPPED_MODEL
from tests.train.records import MakeTrainConfig, make_record

PLACES = (1, 2, 4)  # of three images, turns that are learnt


def load_changed(config: TrainConfig) -> Learner:
    """A learner that has learnt something: its LoRA matrices add noise."""
    learner = load_learner(config, torch.float32, CPU)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in trainable_parameters(learner):
            if ".lora_B." in name:
                weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))
    return learner


def encode_pairs(config: TrainConfig) -> MicroBatch:
    records = [make_record(number) for number in range(3)]
    draws = [TurnDraw(place, 0) for place in PLACES]
    (micro_batch,) = encode_batch(
        records, config, {}, num_workers=1, accumulation_steps=1, draws=draws
    )
    return micro_batch


def list_gradients(learner: Learner) -> list[tuple[str, Tensor]]:
    weights = trainable_parameters(learner)
    gradients = [(name, weight.grad) for name, weight in weights if weight.grad is not None]
    assert len(gradients) == len(weights)
    return gradients


def list_pairs(config: TrainConfig) -> list[tuple[str, str, str]]:
    """Each image's instruction with its question, its best answer and its worst."""
    pairs = []
    for number, place in enumerate(PLACES):
        turn = make_record(number)["turns"][place]
        pair = choose_pair(turn, config.answers)
        assert isinstance(pair, AnswerPair)
        pairs.append((str(turn["question"]), pair.best, pair.worst))
    return pairs


def sum_log_p(model: Any, micro_batch: MicroBatch, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """ln p of each text's answer and its end [R], and how many tokens that is."""
    tokenizer = load_processor(str(world.LLAVA)).tokenizer
    logits_RTV = model(**model_inputs(micro_batch)).logits
    sums, counts = [], []
    answers = [answer for _, *pair in list_pairs(config) for answer in pair]
    for ids_T, logits_TV, answer in zip(micro_batch["input_ids"], logits_RTV, answers, strict=True):
        ids = ids_T.tolist()
        wanted = tokenizer(f" {answer}</s>", add_special_tokens=False)["input_ids"]
        end = ids.index(tokenizer.eos_token_id) + 1
        start = end - len(wanted)
        assert ids[start:end] == wanted
        log_p_TV = logits_TV.log_softmax(dim=-1)
        sums.append(sum(log_p_TV[t - 1, ids[t]] for t in range(start, end)))
        counts.append(len(wanted))
    return torch.stack(sums), torch.tensor(counts)


CASES = {
    "likelihood": Answers(),
    "dpo": Answers(pair_weight=0.8, beta=0.4),
    "dpo, anchor": Answers(pair_weight=0.8, anchor=0.5),
    "ipo": Answers(pair_weight=0.01, pair_loss="ipo", beta=0.2),
    "another score": Answers(by="gain", pair_weight=1.0),
}


@pytest.mark.parametrize("name", CASES)
def test_the_loss_and_its_gradient_are_those_by_hand(
    train_config: MakeTrainConfig, name: str
) -> None:
    rules = CASES[name]
    config = train_config(objective="answers", answers=rules)
    learner, micro_batch = load_changed(config), encode_pairs(config)
    sums = learner(micro_batch)
    sums["loss"].backward()
    gradients = {name: grad.clone() for name, grad in list_gradients(learner)}
    learner.zero_grad()

    log_p_R, count_R = sum_log_p(learner.model, micro_batch, config)
    with torch.no_grad():
        bare_model = AutoModelForImageTextToText.from_pretrained(world.LLAVA)
        initial_R, _ = sum_log_p(bare_model, micro_batch, config)
    assert (log_p_R - initial_R).abs().max() > 1  # the reference is another model
    best_B, worst_B = log_p_R[0::2], log_p_R[1::2]
    nll_B = -best_B / count_R[0::2]
    best_gain_B = best_B - initial_R[0::2]
    gain_B = best_gain_B - (worst_B - initial_R[1::2])
    if rules.pair_loss == "ipo":
        pair_B = (gain_B - 0.5 / rules.beta) ** 2
    else:
        pair_B = -torch.log(1 / (1 + torch.exp(-rules.beta * gain_B)))
    anchor_B = torch.log(1 + torch.exp(-rules.beta * best_gain_B))
    loss = (nll_B + rules.pair_weight * pair_B + rules.anchor * anchor_B).sum()
    loss.backward()
    expected = {
        "loss": loss,
        "nll": nll_B.sum(),
        "margin": (best_B - worst_B).sum(),
        "pair_accuracy": (best_B > worst_B).sum(),
        "images": torch.tensor(3),
    }
    if rules.needs_reference:
        expected |= {"pair": pair_B.sum(), "margin_gain": gain_B.sum()}
    assert {name: value.item() for name, value in sums.items()} == {
        name: pytest.approx(value.item(), rel=1e-4, abs=1e-4) for name, value in expected.items()
    }
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    assert largest > 1e-3
    for weight_name, grad in list_gradients(learner):
        assert torch.allclose(gradients[weight_name], grad, rtol=0, atol=2e-5 * largest)


def test_a_place_that_is_only_filled_counts_nothing(train_config: MakeTrainConfig) -> None:
    config = train_config(objective="answers", answers=CASES["dpo, anchor"])
    learner, micro_batch = load_changed(config), encode_pairs(config)
    whole = learner(micro_batch)
    parts = []
    for weights in ((1.0, 0.0, 1.0), (0.0, 1.0, 0.0)):
        parts.append(learner({**micro_batch, "weight_B": torch.tensor(weights)}))
    for name, value in whole.items():
        assert sum(part[name].item() for part in parts) == pytest.approx(value.item(), rel=1e-5)


def test_the_reference_leaves_the_matrices_as_they_were(train_config: MakeTrainConfig) -> None:
    """peft's own switch would mark them as frozen meanwhile."""
    config = train_config(objective="answers", answers=CASES["dpo"])
    learner = load_changed(config)
    with without_lora(learner.model):
        assert trainable_parameters(learner) and not torch.is_grad_enabled()
    assert torch.is_grad_enabled()
    full = dataclasses.replace(SHIPPED_MODEL, tune="full")
    learner = load_learner(train_config(objective="answers", model=full), torch.float32, CPU)
    with (
        pytest.raises(RuntimeError, match="cannot be computed"),
        without_lora(learner.model),
    ):
        pass


def test_with_dropout_the_reference_drops_nothing(train_config: MakeTrainConfig) -> None:
    model = dataclasses.replace(SHIPPED_MODEL, lora_dropout=0.5)
    config = train_config(objective="answers", answers=CASES["dpo"], model=model)
    learner, micro_batch = load_changed(config).train(), encode_pairs(config)
    first, second = (learner._compute_initial_nll(micro_batch) for _ in range(2))
    assert first is not None and second is not None and torch.equal(first, second)
