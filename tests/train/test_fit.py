"""What a worker does step by step, without Ray around it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray.train
from ray.train import Checkpoint

from c3l_ray.distributed.stop_flag import StopFlag
from c3l_ray.train import fit
from c3l_ray.train.learning.trainer import Trainer
from c3l_ray.train.reading.batches import MicroBatch
from c3l_ray.train.reading.encode import encode_batch
from c3l_ray.train.reading.order import FileRows
from c3l_ray.train.reading.training_data import TrainingData
from c3l_ray.train.training_config import Optimization, Progress, TrainConfig
from tests.train.learning.builders import CPU
from tests.train.records import MakeTrainConfig, make_record

NUM_STEPS = 4


def make_batches(config: TrainConfig) -> list[tuple[MicroBatch, ...]]:
    """A batch of two images for each step; one image of the first and of the third is damaged."""
    batches = []
    for step in range(NUM_STEPS):
        records = [make_record(2 * step), make_record(2 * step + 1)]
        if step % 2 == 0:
            records[0]["image"] = b"damaged"
        micro_batches = encode_batch(records, config, {}, num_workers=1, accumulation_steps=1)
        batches.append(tuple(micro_batches))
    return batches


def test_a_resumed_run_goes_on_counting_the_images_that_it_skips(
    train_config: MakeTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train_config(
        optim=Optimization(batch_size=2, steps=NUM_STEPS),
        progress=Progress(log_every=3, checkpoint_every=2),  # a checkpoint between two lines
    )
    batches = make_batches(config)
    checkpoints: list[Path] = []
    written: dict[str, bytes] = {}

    def open_batches(
        run: fit.TrainingRun, trainer: Any, first_step: int, accumulation_steps: int
    ) -> Iterator[tuple[MicroBatch, ...]]:
        return iter(batches[first_step:])

    def keep_checkpoint(line: Any, checkpoint: Checkpoint | None = None) -> None:
        if checkpoint is not None:
            copy = tmp_path / f"checkpoint-{len(checkpoints)}"
            checkpoints.append(Path(shutil.copytree(checkpoint.path, copy)))

    monkeypatch.setattr(fit, "get_device", lambda: CPU)
    monkeypatch.setattr(fit, "_open_batches", open_batches)
    monkeypatch.setattr(fit, "_report", keep_checkpoint)
    monkeypatch.setattr(fit, "_write_model", lambda trainer, run: None)
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: None)
    data = TrainingData(
        files=(FileRows(address="a", rows=tuple(range(8))),),
        held_out=(),
        quantiles={},
        read=lambda address, rows: [],
    )
    run = fit.TrainingRun(config=config, data=data, write=written.__setitem__)

    def run_and_count() -> list[tuple[float, float]]:
        """For each line of measurements its step, and the damaged images up to there."""
        fit.run_worker({"run": run})
        lines = json.loads(written["measurements.json"])
        return [(line["step"], line["skipped_unusable_image"]) for line in lines]

    assert run_and_count() == [(3, 2), (4, 2)]
    assert written[fit.NOTES] == b"[]"
    first_checkpoint = Checkpoint.from_directory(str(checkpoints[0]))
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: first_checkpoint)
    assert run_and_count() == [(3, 2), (4, 2)]


def test_what_the_proof_on_the_first_batch_says_is_written_and_no_batch_is_lost(
    train_config: MakeTrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train_config(optim=Optimization(batch_size=2, steps=NUM_STEPS))
    trainer = Trainer(config, NUM_STEPS, CPU)
    monkeypatch.setattr(Trainer, "share_prefixes", lambda trainer, micro_batch: ["it is slower"])
    written: dict[str, bytes] = {}
    data = TrainingData(files=(), held_out=(), quantiles={}, read=lambda address, rows: [])
    run = fit.TrainingRun(config=config, data=data, write=written.__setitem__)
    batches = make_batches(config)
    assert list(fit._prepare_trainer(trainer, run, iter(batches))) == batches
    assert json.loads(written[fit.NOTES]) == ["it is slower"]
    assert list(fit._prepare_trainer(trainer, run, iter(()))) == []


def test_a_worker_that_is_to_stop_saves_the_step_under_way_and_writes_no_model(
    train_config: MakeTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train_config(
        optim=Optimization(batch_size=2, steps=NUM_STEPS),
        progress=Progress(log_every=3, checkpoint_every=3),
    )
    batches = make_batches(config)
    reported: list[tuple[int, bool]] = []
    models: list[Any] = []

    class IsUpAtTheSecondStep(StopFlag):
        def is_up(self) -> bool:
            checks.append(None)
            return len(checks) >= 2

    checks: list[None] = []

    def report(line: Any, checkpoint: Checkpoint | None = None) -> None:
        reported.append((line["step"], checkpoint is not None))

    monkeypatch.setattr(fit, "get_device", lambda: CPU)
    monkeypatch.setattr(fit, "_open_batches", lambda *_: iter(batches))
    monkeypatch.setattr(fit, "_report", report)
    monkeypatch.setattr(fit, "_write_model", lambda trainer, run: models.append(run))
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: None)
    files = (FileRows(address="a", rows=tuple(range(8))),)
    data = TrainingData(files=files, held_out=(), quantiles={}, read=lambda address, rows: [])
    written: dict[str, bytes] = {}
    flag = IsUpAtTheSecondStep("key")
    run = fit.TrainingRun(config=config, data=data, write=written.__setitem__, flag=flag)
    fit.run_worker({"run": run})
    assert reported == [(2, True)]
    assert models == []
