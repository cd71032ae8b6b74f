"""Ray Data deals every worker its own shares, in an order that no race can change."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from c3l_ray.distributed import cluster
from c3l_ray.train.reading import scan
from c3l_ray.runs.folder import Output
from c3l_ray.train.reading import mixture, order, stream
from c3l_ray.train.reading.batches import Batch
from c3l_ray.train.training_config import Optimization, TrainConfig, Workers
from c3l_ray.train.reading.encode import encode
from tests.train.records import write_run

NUM_WORKERS = 2


@pytest.fixture(scope="module")
def local_cluster() -> Iterator[None]:
    cluster.connect(NUM_WORKERS + 2)
    yield
    ray.shutdown()


@pytest.fixture
def data(tmp_path: Path) -> stream.Data:
    write_run(tmp_path / "run", num_scenes=18, scenes_per_file=6)
    source = Output(str(tmp_path / "run"))
    learn, held_out = scan.rows(
        source, source.manifests(), lambda _: True, scores=[], held_out=0.25, max_held_out=9
    )
    parts, apart = (
        tuple(order.Part(name=name, rows=rows) for name, rows in found)
        for found in (learn, held_out)
    )
    # Two turns of every image, and one of some: what an objective without a mixture passes over.
    often = [
        (i, row, place) for i, part in enumerate(parts) for row in part.rows for place in (1, 3)
    ]
    return stream.Data(
        parts=parts,
        held_out=apart,
        standings={},
        read=functools.partial(scan.read, source),
        sets=(mixture.Set.of("often", often), mixture.Set.of("seldom", [(1, 2, 0), (0, 1, 4)])),
    )


def taken(iterators: list[Any], rounds: int) -> list[list[tuple[Batch, ...]]]:
    """What each worker takes, all at the same time."""
    with ThreadPoolExecutor(len(iterators)) as workers:
        return list(workers.map(lambda each: list(stream.in_batches(each, rounds)), iterators))


def same(one: tuple[Batch, ...], other: tuple[Batch, ...]) -> bool:
    return all(
        ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        for ours, theirs in zip(one, other, strict=True)
    )


@pytest.mark.usefixtures("local_cluster")
@pytest.mark.parametrize("objective", ["c3l", "vigc"])
def test_every_worker_gets_its_shares_in_order(
    train_config: Callable[..., TrainConfig], data: stream.Data, objective: str
) -> None:
    if objective == "c3l":
        data = dataclasses.replace(data, sets=())
    config = train_config(
        objective=objective,
        optim=Optimization(batch_size=3, micro_batch=1, window_images=6),
        workers=Workers(num=NUM_WORKERS, readers=2),
    )
    first_step, num_steps = 3, 9  # an epoch has four steps or so: into the next one
    rounds = stream.rounds(config, NUM_WORKERS)
    assert rounds == 2
    expected: list[list[tuple[Batch, ...]]] = [[] for _ in range(NUM_WORKERS)]
    windows = (
        functools.partial(mixture.windows, data.sets, stream.shares_of_sets(config, data))
        if data.sets
        else functools.partial(order.windows, data.parts)
    )
    for window in windows(
        batch_size=3,
        seed=0,
        window_images=6,
        first_step=first_step,
        num_steps=num_steps,
    ):
        for places in window.places.tolist():
            records = [data.read(data.parts[part].name, [row])[0] for part, row, *_ in places]
            draws = [(draw[0], draw[1]) if draw else None for _, _, *draw in places]
            made = encode(records, config, {}, num_workers=NUM_WORKERS, rounds=rounds, draws=draws)
            shares = [*made]
            for rank in range(NUM_WORKERS):
                expected[rank].append(tuple(shares[rank::NUM_WORKERS]))
    found = taken(
        stream.training(
            config, data, first_step=first_step, num_steps=num_steps, num_workers=NUM_WORKERS
        ),
        rounds,
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) == num_steps - first_step
        assert all(same(one, other) for one, other in zip(ours, theirs, strict=True))

    held_out = stream.evaluation(config, data, num_workers=NUM_WORKERS)
    first, second = (taken(held_out, rounds) for _ in range(2))  # each pass reads them again
    there = sum(share["weight_B"].sum() for worker in first for batch in worker for share in batch)
    assert there == order.num_images(data.held_out)
    for one, other in zip(first, second, strict=True):
        assert all(same(a, b) for a, b in zip(one, other, strict=True)) and one
