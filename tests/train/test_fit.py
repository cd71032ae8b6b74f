"""What a worker does step by step, without Ray around it."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
import ray.train
from ray.train import Checkpoint

from c3l_ray.distributed.stop_flag import StopFlag
from c3l_ray.errors import C3LError
from c3l_ray.train import fit, held_out
from c3l_ray.train.learning.readable import Prompt
from c3l_ray.train.learning.trainer import Trainer
from c3l_ray.train.objectives import Answers
from c3l_ray.train.reading.batches import MicroBatch
from c3l_ray.train.reading.encode import MAX_EMPTY_BATCHES, encode_batch
from c3l_ray.train.reading.order import FileRows
from c3l_ray.train.reading.training_data import TrainingData
from c3l_ray.train.training_config import Optimization, Progress, TrainConfig
from tests.train.learning.builders import CPU
from tests.train.records import MakeTrainConfig, make_record

NUM_STEPS = 4


@dataclass
class StepsRun:
    """What a worker wrote without Ray: files, checkpoints, and how many models."""

    written: dict[str, bytes] = field(default_factory=dict)
    checkpoints: list[Path] = field(default_factory=list)
    models: int = 0


class RunSteps(Protocol):
    """Runs three steps of the objective answers, or those after the latest checkpoint."""

    def __call__(
        self, answers: Answers, *, num_held_out: int = 3, resumed: StepsRun | None = None
    ) -> StepsRun: ...


@pytest.fixture
def run_steps(
    train_config: MakeTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RunSteps:
    monkeypatch.setattr(fit, "get_device", lambda: CPU)
    monkeypatch.setattr(held_out, "_open_iterator", lambda config, data, trainer: None)

    def run_steps(
        answers: Answers, *, num_held_out: int = 3, resumed: StepsRun | None = None
    ) -> StepsRun:
        config = train_config(
            objective="answers",
            answers=answers,
            optim=Optimization(batch_size=2, steps=3),
            progress=Progress(log_every=1, checkpoint_every=1),
        )
        run = resumed or StepsRun()
        latest = Checkpoint.from_directory(str(run.checkpoints[-1])) if resumed else None

        def keep_checkpoint(line: Any, checkpoint: Checkpoint | None = None) -> None:
            assert checkpoint is not None
            copy = Path(tempfile.mkdtemp(dir=tmp_path)) / "checkpoint"
            run.checkpoints.append(Path(shutil.copytree(checkpoint.path, copy)))

        def count_model(*_: Any) -> None:
            run.models += 1

        monkeypatch.setattr(
            fit, "_open_batches", lambda run, trainer, first, _: iter(make_batches(config)[first:3])
        )
        monkeypatch.setattr(fit, "_report", keep_checkpoint)
        monkeypatch.setattr(fit, "_write_model", count_model)
        monkeypatch.setattr(ray.train, "get_checkpoint", lambda: latest)
        data = TrainingData(
            files=(FileRows(address="a", rows=tuple(range(8))),),
            held_out=(FileRows(address="a", rows=tuple(range(num_held_out))),),
            quantiles={},
            read=lambda address, rows: [make_record(row) for row in rows],
        )
        write = run.written.__setitem__
        fit.run_worker({"run": fit.TrainingRun(config=config, data=data, write=write)})
        return run

    return run_steps


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


def test_what_the_proof_on_the_first_batch_says_is_noted_and_no_batch_is_lost(
    train_config: MakeTrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train_config(optim=Optimization(batch_size=2, steps=NUM_STEPS))
    trainer = Trainer(config, NUM_STEPS, CPU)
    monkeypatch.setattr(Trainer, "share_prefixes", lambda trainer, micro_batch: ["it is slower"])
    batches = make_batches(config)
    prepared, notes = fit._prepare_trainer(trainer, iter(batches))
    assert list(prepared) == batches and notes == ["it is slower"]
    prepared, notes = fit._prepare_trainer(trainer, iter(()))
    assert list(prepared) == [] and notes == []


SHARES = [1.0, 0.95, 0.8, 0.8, 0.7]


def test_replies_that_can_no_longer_be_read_stop_the_training(
    run_steps: RunSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the checkpoint before that is the one to go on from."""
    shares = iter(SHARES)
    asked: list[tuple[int, int]] = []

    def measure(trainer: Trainer, prompts: list[Prompt], num_prompts: int, _: Any) -> float:
        asked.append((len(prompts), num_prompts))
        return next(shares)

    monkeypatch.setattr(held_out, "measure_readable_share", measure)
    monkeypatch.setattr(Trainer, "share_prefixes", lambda trainer, micro_batch: ["it is slower"])
    run = run_steps(Answers(readable_replies=7))
    lines = json.loads(run.written["measurements.json"])
    readable = [(line["step"], line["held_out_readable"]) for line in lines]
    assert readable == [(0, 1.0), (1, 0.95), (2, 0.8)] and asked == [(7, 7)] * 3
    stop = json.loads(run.written[fit.STOPPED])
    assert (stop["step"], stop["saved_step"], len(run.checkpoints)) == (2, 1, 1)
    assert "80.0% are readable, and 100.0% were at the start" in stop["reason"]
    assert json.loads(run.written[fit.NOTES]) == ["it is slower"] and run.models == 0

    del run.written[fit.STOPPED]
    run = run_steps(Answers(readable_replies=7, min_readable=0.5), resumed=run)
    assert fit.STOPPED not in run.written and run.models == 1
    steps = [line["step"] for line in json.loads(run.written["measurements.json"])]
    assert steps == [0, 1, 2, 3]
    assert next(shares, None) is None  # the first share was known


def test_what_is_not_measured_of_replies_is_noted(
    run_steps: RunSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "measure_readable_share", lambda *_: 0.25)
    (note,) = json.loads(run_steps(Answers(readable_replies=4)).written[fit.NOTES])
    assert note == "of 4 replies that the model wrote before it was tuned, 25% were readable"
    (note,) = json.loads(run_steps(Answers(), num_held_out=0).written[fit.NOTES])
    assert "was not measured: no held-out image" in note
    run = run_steps(Answers(readable_replies=0))
    assert json.loads(run.written[fit.NOTES]) == []
    assert "held_out_readable" not in run.written["measurements.json"].decode()


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


@pytest.mark.parametrize("num_empty", [MAX_EMPTY_BATCHES - 1, MAX_EMPTY_BATCHES])
def test_batches_that_teach_nothing_end_a_training_only_where_they_follow_each_other(
    train_config: MakeTrainConfig, monkeypatch: pytest.MonkeyPatch, num_empty: int
) -> None:
    num_steps = 2 * num_empty + 1
    config = train_config(
        optim=Optimization(batch_size=1, steps=num_steps),
        progress=Progress(log_every=num_steps, checkpoint_every=num_steps),
    )
    damaged = [{**make_record(0), "image": b"damaged"}]
    sides: list[list[MicroBatch]] = [
        list(
            encode_batch(
                records,  # type: ignore[arg-type]  # a dict of a record's keys
                config,
                {},
                num_workers=1,
                accumulation_steps=1,
                filler=make_record(1),
            )
        )
        for records in (damaged, [make_record(2)])
    ]
    empty, usable = (tuple(side) for side in sides)
    batches = [*[empty] * num_empty, usable, *[empty] * num_empty]
    monkeypatch.setattr(fit, "get_device", lambda: CPU)
    monkeypatch.setattr(fit, "_open_batches", lambda *_: iter(batches))
    monkeypatch.setattr(fit, "_report", lambda *_: None)
    monkeypatch.setattr(fit, "_write_model", lambda *_: None)
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: None)
    files = (FileRows(address="a", rows=(0,)),)
    data = TrainingData(files=files, held_out=(), quantiles={}, read=lambda address, rows: [])
    written: dict[str, bytes] = {}
    run = fit.TrainingRun(config=config, data=data, write=written.__setitem__)
    if num_empty == MAX_EMPTY_BATCHES:
        with pytest.raises(C3LError, match="none of the images of 8 batches in a row, the last of"):
            fit.run_worker({"run": run})
        return
    fit.run_worker({"run": run})
    (line,) = json.loads(written["measurements.json"])
    assert (line["step"], line["skipped_unusable_image"]) == (num_steps, 2 * num_empty)
    assert line["loss"] > 0
