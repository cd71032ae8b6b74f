"""Steps, their state, and workers together: real processes over gloo."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from c3l_ray.scenes import world
from c3l_ray.train.learning import export
from c3l_ray.train.reading import order
from c3l_ray.train.reading.batches import Batch
from c3l_ray.train.training_config import Optimization, TrainConfig, Tuned, Workers
from c3l_ray.train.reading.encode import encode
from c3l_ray.train.learning.learner import learning
from c3l_ray.train.learning.step import Optimizer, learning_rate, precision
from tests.train.records import record

Make = Callable[..., TrainConfig]
CPU = torch.device("cpu")
TINY = Tuned(name=str(world.LLAVA))


def shares_of(
    config: TrainConfig, step: int, *, rank: int = 0, num_workers: int = 1
) -> list[Batch]:
    """A worker's shares of a batch of scenes."""
    size = config.optim.batch_size
    rounds = order.num_rounds(size, num_workers, config.optim.micro_batch)
    records = [record(step * size + i) for i in range(size)]
    shares = encode(records, config, {}, num_workers=num_workers, rounds=rounds)
    return list(shares)[rank::num_workers]


def losses_of(optimizer: Optimizer, steps: range) -> list[float]:
    found = []
    for step in steps:
        shares = shares_of(optimizer.config, step % 3)
        found.append(optimizer.step(step, shares)["loss"].item())
    return found


@pytest.mark.parametrize(("objective", "batch_size"), [("c3l", 1), ("cgvlm", 3), ("vigc", 3)])
def test_a_run_that_goes_on_has_the_losses_of_one_that_never_stopped(
    train_config: Make, tmp_path: Path, objective: str, batch_size: int
) -> None:
    config = train_config(
        objective=objective,
        optim=Optimization(batch_size=batch_size, micro_batch=2),
        model=dataclasses.replace(TINY, lora_dropout=0.1),  # so that random numbers matter
    )
    whole = Optimizer(config, 30, CPU)
    losses_of(whole, range(4))
    whole.save(tmp_path)
    expected = losses_of(whole, range(4, 24))
    again = Optimizer(config, 30, CPU)
    again.restore(tmp_path)
    assert losses_of(again, range(4, 24)) == expected
    assert len(set(expected)) == 20


@pytest.mark.parametrize("objective", ["c3l", "vigc"])
def test_learning_lowers_the_loss(train_config: Make, objective: str) -> None:
    optim = Optimization(batch_size=2)
    optimizer = Optimizer(train_config(objective=objective, optim=optim), 12, CPU)
    found = losses_of(optimizer, range(12))
    assert sum(found[-3:]) < 0.9 * sum(found[:3])


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.25), (3, 1.0), (4, 1.0), (12, 0.5), (20, 0.0)]
)
def test_the_rate_rises_and_falls_along_a_cosine(
    train_config: Make, step: int, expected: float
) -> None:
    config = train_config(optim=Optimization(warm_up=0.2, learning_rate=3.0))
    assert learning_rate(config, step, 20) == pytest.approx(3.0 * expected)


@pytest.mark.parametrize("objective", ["c3l", "cgvlm", "vigc"])
def test_bfloat16_computes_close_to_float32(train_config: Make, objective: str) -> None:
    found = {}
    for name in ("float32", "bfloat16"):
        config = train_config(
            objective=objective,
            model=dataclasses.replace(TINY, precision=name),
            optim=Optimization(batch_size=2),
        )
        assert precision(config, CPU) == getattr(torch, name)
        found[name] = losses_of(Optimizer(config, 4, CPU), range(2))
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.05)
    assert found["bfloat16"] != found["float32"]


CASES = {
    # name: objective, sharding, images, images computed at once by one worker of two
    "c3l": ("c3l", "ddp", 4, 2),
    "c3l in rounds, uneven": ("c3l", "ddp", 5, 1),
    "cgvlm": ("cgvlm", "ddp", 5, 3),
    "cgvlm in rounds, uneven": ("cgvlm", "ddp", 5, 1),
    "vigc in rounds, uneven": ("vigc", "ddp", 5, 2),
    "c3l sharded": ("c3l", "fsdp", 4, 2),
    "cgvlm sharded": ("cgvlm", "fsdp", 4, 2),
    "cgvlm sharded in rounds": ("cgvlm", "fsdp", 5, 1),
    "vigc sharded": ("vigc", "fsdp", 4, 2),
}


def case_config(name: str, *, num_workers: int) -> TrainConfig:
    objective, sharding, batch_size, micro_batch = CASES[name]
    return TrainConfig(
        input=(),
        output="",
        model=TINY,
        objective=objective,  # type: ignore[arg-type]
        optim=Optimization(
            batch_size=batch_size, micro_batch=micro_batch if num_workers > 1 else batch_size
        ),
        workers=Workers(num=num_workers, sharding=sharding if num_workers > 1 else "ddp"),  # type: ignore[arg-type]
    )


def gradients(optimizer: Optimizer, shares: list[Batch]) -> dict[str, torch.Tensor]:
    optimizer.backward(shares)
    found = {}
    for name, weight in learning(optimizer.learner):
        assert weight.grad is not None
        grad: Any = weight.grad
        found[name] = (grad.full_tensor() if hasattr(grad, "full_tensor") else grad).clone()
    return found


def work(rank: int, num_workers: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=num_workers
    )
    for number, name in enumerate(CASES):
        config = case_config(name, num_workers=num_workers)
        optimizer = Optimizer(config, 10, CPU)
        shares = shares_of(config, 0, rank=rank, num_workers=num_workers)
        found = gradients(optimizer, shares)
        optimizer.adamw.zero_grad()
        after = [optimizer.step(step, shares)["loss"] for step in range(2)]
        dist.all_reduce(after[1])
        saved = Path(folder) / f"state-{number}"
        optimizer.save(saved)
        changed = dict(export.changed(optimizer.learner))
        if rank == 0:
            torch.save((found, after[1], changed), f"{folder}/case-{number}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_two_workers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    mp.spawn(work, args=(2, str(folder)), nprocs=2)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_workers_learn_what_one_does(of_two_workers: Path, name: str) -> None:
    number = list(CASES).index(name)
    theirs, their_loss, their_weights = torch.load(of_two_workers / f"case-{number}.pt")
    config = case_config(name, num_workers=1)
    optimizer = Optimizer(config, 10, CPU)
    shares = shares_of(config, 0)
    ours = gradients(optimizer, shares)
    assert ours.keys() == theirs.keys()
    largest = max(grad.abs().max().item() for grad in ours.values())
    for each, grad in ours.items():
        assert torch.allclose(theirs[each], grad, rtol=0, atol=1e-5 * largest), each

    optimizer.adamw.zero_grad()
    our_loss = [optimizer.step(step, shares)["loss"] for step in range(2)][1]
    assert their_loss.item() == pytest.approx(our_loss.item(), rel=1e-4)
    for loaded, weight in export.changed(optimizer.learner):
        assert torch.allclose(their_weights[loaded], weight, atol=1e-4), loaded


@pytest.mark.parametrize("name", ["c3l", "c3l sharded", "cgvlm sharded"])
def test_another_number_of_workers_goes_on(of_two_workers: Path, name: str) -> None:
    number = list(CASES).index(name)
    _, _, their_weights = torch.load(of_two_workers / f"case-{number}.pt")
    optimizer = Optimizer(case_config(name, num_workers=1), 10, CPU)
    optimizer.restore(of_two_workers / f"state-{number}")
    for loaded, weight in export.changed(optimizer.learner):
        assert torch.equal(their_weights[loaded], weight), loaded
    state = optimizer.adamw.state_dict()["state"]
    assert state and all(each["step"] == 2 for each in state.values())
