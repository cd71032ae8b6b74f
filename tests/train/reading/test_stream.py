"""Ray Data deals every worker its own micro-batches, in an order that no race can change."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from c3l_ray.distributed import cluster
from c3l_ray.runs.folder import RunFolder
from c3l_ray.train.reading import mixture, order, scan, stream
from c3l_ray.train.reading.batches import MicroBatch
from c3l_ray.train.reading.encode import encode_batch
from c3l_ray.train.reading.sources import RecordsSource
from c3l_ray.train.reading.training_data import TrainingData
from c3l_ray.train.training_config import Optimization, Workers
from tests.train.records import MakeTrainConfig, write_run

NUM_WORKERS = 2


@pytest.fixture(scope="module")
def local_cluster() -> Iterator[None]:
    cluster.connect(NUM_WORKERS + 2)
    yield
    ray.shutdown()


@pytest.fixture
def data(tmp_path: Path) -> TrainingData:
    write_run(tmp_path / "run", num_scenes=18, scenes_per_file=6)
    source = RecordsSource(RunFolder.open(str(tmp_path / "run")), "test")
    files, held_out = scan.find_usable_rows(
        source.texts(), lambda _: True, held_out_share=0.25, max_held_out=9
    )
    # Two turns of every image, and one of some: what an objective without a mixture passes over.
    often = [
        (number, row, place)
        for number, file in enumerate(files)
        for row in file.rows
        for place in (1, 3)
    ]
    return TrainingData(
        files=files,
        held_out=held_out,
        quantiles={},
        read=source.read,
        sets=(
            mixture.TurnSet.from_list("often", often),
            mixture.TurnSet.from_list("seldom", [(1, 2, 0), (0, 1, 4)]),
        ),
    )


def take_batches(
    iterators: list[Any], accumulation_steps: int
) -> list[list[tuple[MicroBatch, ...]]]:
    """What each worker takes, all at the same time."""

    def take(iterator: Any) -> list[tuple[MicroBatch, ...]]:
        return list(stream.iter_batches(iterator, accumulation_steps))

    with ThreadPoolExecutor(len(iterators)) as workers:
        return list(workers.map(take, iterators))


def are_equal(one: tuple[MicroBatch, ...], other: tuple[MicroBatch, ...]) -> bool:
    return all(
        first.keys() == second.keys()
        and all(torch.equal(first[name], second[name]) for name in first)
        for first, second in zip(one, other, strict=True)
    )


@pytest.mark.usefixtures("local_cluster")
@pytest.mark.parametrize("objective", ["c3l", "vigc"])
def test_every_worker_gets_its_micro_batches_in_order(
    train_config: MakeTrainConfig, data: TrainingData, objective: str
) -> None:
    if objective == "c3l":
        data = dataclasses.replace(data, sets=())
    config = train_config(
        objective=objective,
        optim=Optimization(batch_size=3, micro_batch=1, shuffle_window=6),
        workers=Workers(num=NUM_WORKERS, readers=2),
    )
    first_step, num_steps = 3, 9  # an epoch has four steps or so: into the next one
    accumulation_steps = config.optim.count_accumulation_steps(NUM_WORKERS)
    assert accumulation_steps == 2
    expected: list[list[tuple[MicroBatch, ...]]] = [[] for _ in range(NUM_WORKERS)]
    schedule = order.Schedule(
        batch_size=3, seed=0, shuffle_window=6, first_step=first_step, num_steps=num_steps
    )
    windows = (
        mixture.plan_draws(data.sets, data.set_shares(config), schedule)
        if data.sets
        else order.plan_epochs(data.files, schedule)
    )
    for window in windows:
        for step in window.rows.tolist():
            records = [data.read(data.files[file].address, [row])[0] for file, row, *_ in step]
            draws = [mixture.TurnDraw(*draw) if draw else None for _, _, *draw in step]
            micro_batches = list(
                encode_batch(
                    records,
                    config,
                    {},
                    num_workers=NUM_WORKERS,
                    accumulation_steps=accumulation_steps,
                    draws=draws,
                )
            )
            for rank in range(NUM_WORKERS):
                expected[rank].append(tuple(micro_batches[rank::NUM_WORKERS]))
    iterators = stream.stream_training(
        config, data, first_step=first_step, num_steps=num_steps, num_workers=NUM_WORKERS
    )
    batches_of_workers = take_batches(iterators, accumulation_steps)
    for batches, expected_batches in zip(batches_of_workers, expected, strict=True):
        assert len(batches) == num_steps - first_step
        assert all(
            are_equal(batch, other) for batch, other in zip(batches, expected_batches, strict=True)
        )

    held_out = stream.stream_held_out(config, data, num_workers=NUM_WORKERS)
    # Each pass reads them again.
    first_pass, second_pass = (take_batches(held_out, accumulation_steps) for _ in range(2))
    num_images = sum(
        micro_batch["weight_B"].sum()
        for batches in first_pass
        for batch in batches
        for micro_batch in batch
    )
    assert num_images == order.count_images(data.held_out)
    for batches, same_batches in zip(first_pass, second_pass, strict=True):
        assert batches
        assert all(
            are_equal(batch, other) for batch, other in zip(batches, same_batches, strict=True)
        )
