"""Steps, their state, and workers together: real processes over gloo."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from c3l_ray import chat
from c3l_ray.images import decode_image
from c3l_ray.train.learning import export
from c3l_ray.train.learning.readable import Prompt, measure_readable_share, write_replies
from c3l_ray.train.learning.trainer import Trainer, choose_dtype, learning_rate_at
from c3l_ray.train.objectives import Answers, Contrast
from c3l_ray.train.reading.encode import encode_batch, load_processor
from c3l_ray.train.training_config import Optimization, TrainConfig, Workers
from tests.train.learning.builders import CPU, SHIPPED_MODEL, compute_gradients, make_batch
from tests.train.records import MakeTrainConfig, make_record

PAIRS = Answers(pair_weight=1.0, anchor=0.5)
PROCESSOR = load_processor(SHIPPED_MODEL.name)


def run_steps(trainer: Trainer, steps: range) -> list[float]:
    """The loss of each step."""
    return [
        trainer.step(step, make_batch(trainer.config, step % 3))["loss"].item() for step in steps
    ]


@pytest.mark.parametrize(
    ("objective", "batch_size"), [("c3l", 1), ("cgvlm", 3), ("vigc", 3), ("answers", 1)]
)
def test_a_resumed_run_has_the_losses_of_one_that_never_stopped(
    train_config: MakeTrainConfig, tmp_path: Path, objective: str, batch_size: int
) -> None:
    config = train_config(
        objective=objective,
        answers=PAIRS,
        optim=Optimization(batch_size=batch_size, micro_batch=2),
        model=dataclasses.replace(SHIPPED_MODEL, lora_dropout=0.1),  # random numbers matter
    )
    trainer = Trainer(config, 30, CPU)
    run_steps(trainer, range(4))
    trainer.save(tmp_path)
    expected = run_steps(trainer, range(4, 24))
    resumed = Trainer(config, 30, CPU)
    resumed.restore(tmp_path)
    assert run_steps(resumed, range(4, 24)) == expected
    assert len(set(expected)) == 20


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        ("c3l", {"contrast": Contrast(in_batch_negatives=True)}),
        ("cgvlm", {}),
        ("vigc", {}),
        ("conversations", {}),
        ("answers", {"answers": PAIRS}),
    ],
)
def test_a_batch_of_which_nothing_can_be_learnt_teaches_nothing(
    train_config: MakeTrainConfig, objective: str, options: dict[str, Any]
) -> None:
    config = train_config(
        objective=objective, optim=Optimization(batch_size=4, micro_batch=2), **options
    )
    damaged: list[Any] = [{**make_record(number), "image": b"damaged"} for number in range(4)]
    batch = list(
        encode_batch(
            damaged, config, {}, num_workers=1, accumulation_steps=2, filler=make_record(9)
        )
    )
    trainer = Trainer(config, 3, CPU)
    assert not any(gradient.any() for gradient in compute_gradients(trainer, batch).values())
    sums = trainer.step(0, batch)
    assert sums["images"] == 0 and all(torch.isfinite(value) for value in sums.values())
    means = trainer.evaluate([batch])
    assert all(math.isfinite(value) for value in means.values())


@pytest.mark.parametrize("objective", ["c3l", "vigc", "answers"])
def test_learning_lowers_the_loss(train_config: MakeTrainConfig, objective: str) -> None:
    config = train_config(objective=objective, optim=Optimization(batch_size=2))
    losses = run_steps(Trainer(config, 12, CPU), range(12))
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.25), (3, 1.0), (4, 1.0), (12, 0.5), (20, 0.0)]
)
def test_the_learning_rate_rises_and_falls_along_a_cosine(
    train_config: MakeTrainConfig, step: int, expected: float
) -> None:
    config = train_config(optim=Optimization(warm_up=0.2, learning_rate=3.0))
    assert learning_rate_at(config, step, 20) == pytest.approx(3.0 * expected)


@pytest.mark.parametrize("objective", ["c3l", "cgvlm", "vigc", "answers"])
def test_bfloat16_computes_close_to_float32(train_config: MakeTrainConfig, objective: str) -> None:
    losses = {}
    for name in ("float32", "bfloat16"):
        config = train_config(
            objective=objective,
            answers=PAIRS,
            model=dataclasses.replace(SHIPPED_MODEL, precision=name),
            optim=Optimization(batch_size=2),
        )
        assert choose_dtype(config, CPU) == getattr(torch, name)
        losses[name] = run_steps(Trainer(config, 4, CPU), range(2))
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bfloat16"] != losses["float32"]


ANSWERS_SHARDED = "answers sharded, shared prefixes, activations twice"
CASES: dict[str, tuple[Any, Any, int, int]] = {
    # name: objective, sharding, images, images computed at once by one worker of two
    "c3l": ("c3l", "ddp", 4, 2),
    "c3l in micro-batches, uneven": ("c3l", "ddp", 5, 1),
    "cgvlm": ("cgvlm", "ddp", 5, 3),
    "cgvlm in micro-batches, uneven": ("cgvlm", "ddp", 5, 1),
    "vigc in micro-batches, uneven": ("vigc", "ddp", 5, 2),
    "c3l sharded": ("c3l", "fsdp", 4, 2),
    "cgvlm sharded": ("cgvlm", "fsdp", 4, 2),
    "cgvlm sharded in micro-batches": ("cgvlm", "fsdp", 5, 1),
    "vigc sharded": ("vigc", "fsdp", 4, 2),
    "c3l, shared prefixes": ("c3l", "ddp", 4, 2),
    "c3l sharded, shared prefixes": ("c3l", "fsdp", 4, 2),
    "c3l, shared prefixes, activations twice": ("c3l", "ddp", 4, 1),
    "c3l sharded, shared prefixes, activations twice": ("c3l", "fsdp", 4, 1),
    "cgvlm sharded, activations twice": ("cgvlm", "fsdp", 4, 1),
    "answers in micro-batches, uneven": ("answers", "ddp", 5, 2),
    ANSWERS_SHARDED: ("answers", "fsdp", 4, 1),
}


def make_case_config(name: str, *, num_workers: int) -> TrainConfig:
    objective, sharding, batch_size, micro_batch = CASES[name]
    return TrainConfig(
        input=(),
        output="",
        model=dataclasses.replace(
            SHIPPED_MODEL, activation_checkpointing="on" if "twice" in name else "off"
        ),
        objective=objective,
        answers=PAIRS,
        optim=Optimization(
            batch_size=batch_size, micro_batch=micro_batch if num_workers > 1 else batch_size
        ),
        workers=Workers(num=num_workers, sharding=sharding if num_workers > 1 else "ddp"),
    )


def run_worker(rank: int, num_workers: int, folder: str) -> None:
    """Gradients, two steps and a checkpoint of each case, written by the first worker."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=num_workers
    )
    for number, name in enumerate(CASES):
        config = make_case_config(name, num_workers=num_workers)
        trainer = Trainer(config, 10, CPU)
        batch = make_batch(config, 0, rank=rank, num_workers=num_workers)
        if "shared prefixes" in name:
            assert trainer.share_prefixes(batch[0]) == [] and trainer.learner.attention
        gradients = compute_gradients(trainer, batch)
        trainer.adamw.zero_grad()
        losses = [trainer.step(step, batch)["loss"] for step in range(2)]
        dist.all_reduce(losses[1])
        if name == ANSWERS_SHARDED:
            replies = write_replies(trainer, make_prompts()[rank::num_workers], PROCESSOR)
            Path(f"{folder}/replies-{rank}").write_text("\n".join(replies))
        trainer.save(Path(folder) / f"state-{number}")
        weights = dict(export.gather_tuned_weights(trainer.learner))
        if rank == 0:
            torch.save((gradients, losses[1], weights), f"{folder}/case-{number}.pt")
    dist.destroy_process_group()


def make_prompts() -> list[Prompt]:
    records = [make_record(number) for number in range(4)]
    return [
        Prompt(
            image=decode_image(record["image"], 10**6),
            text=chat.answer_prompt(PROCESSOR, record["turns"][1]["instruction"], with_image=True),
            number=number,
        )
        for number, record in enumerate(records)
    ]


def test_two_workers_write_the_replies_that_one_does(two_workers: Path) -> None:
    trainer = Trainer(make_case_config(ANSWERS_SHARDED, num_workers=1), 10, CPU)
    trainer.restore(two_workers / f"state-{list(CASES).index(ANSWERS_SHARDED)}")
    state = torch.random.get_rng_state()
    replies = write_replies(trainer, make_prompts(), PROCESSOR)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all("Question:" in reply for reply in replies) and len(set(replies)) == 4
    for rank in range(2):
        theirs = (two_workers / f"replies-{rank}").read_text().split("\n")
        assert theirs == replies[rank::2]
    assert trainer.learner.training
    share = measure_readable_share(trainer, make_prompts(), 3, PROCESSOR)
    assert share == 1.0


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two workers have written to."""
    folder = tmp_path_factory.mktemp("workers")
    spawn(run_worker, args=(2, str(folder)), nprocs=2)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_workers_learn_what_one_does(two_workers: Path, name: str) -> None:
    number = list(CASES).index(name)
    their_gradients, their_loss, their_weights = torch.load(two_workers / f"case-{number}.pt")
    config = make_case_config(name, num_workers=1)
    trainer = Trainer(config, 10, CPU)
    batch = make_batch(config, 0)
    gradients = compute_gradients(trainer, batch)
    assert gradients.keys() == their_gradients.keys()
    largest = max(grad.abs().max().item() for grad in gradients.values())
    for weight_name, grad in gradients.items():
        their_grad = their_gradients[weight_name]
        assert torch.allclose(their_grad, grad, rtol=0, atol=1e-5 * largest), weight_name

    trainer.adamw.zero_grad()
    loss = [trainer.step(step, batch)["loss"] for step in range(2)][1]
    assert their_loss.item() == pytest.approx(loss.item(), rel=1e-4)
    for weight_name, weight in export.gather_tuned_weights(trainer.learner):
        assert torch.allclose(their_weights[weight_name], weight, atol=1e-4), weight_name


@pytest.mark.parametrize("name", ["c3l", "c3l sharded", "cgvlm sharded"])
def test_another_number_of_workers_resumes(two_workers: Path, name: str) -> None:
    number = list(CASES).index(name)
    _, _, their_weights = torch.load(two_workers / f"case-{number}.pt")
    trainer = Trainer(make_case_config(name, num_workers=1), 10, CPU)
    trainer.restore(two_workers / f"state-{number}")
    for weight_name, weight in export.gather_tuned_weights(trainer.learner):
        assert torch.equal(their_weights[weight_name], weight), weight_name
    states = trainer.adamw.state_dict()["state"]
    assert states and all(state["step"] == 2 for state in states.values())
