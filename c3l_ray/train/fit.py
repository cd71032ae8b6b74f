"""The run on Ray Train: workers, measurements, checkpoints, and going on after a death.

A worker that dies takes its group with it; Ray Train starts the group again, smaller or larger
where `--workers.least` allows, and it goes on from the latest checkpoint. The same command after
the driver's death does the same. Steps since that checkpoint are done again, and come out the same.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    CheckpointUploadMode,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
)
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchTrainer, get_device

from c3l_ray.train.learning import export
from c3l_ray.train.reading import order, stream
from c3l_ray.train.reading.batches import Batch
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.train.learning.metrics import Board, Measured, Meter
from c3l_ray.train.learning.step import Optimizer, learning_rate
from c3l_ray.train.reading.stream import Data

CHECKPOINTS = "checkpoints"
MODEL = "model"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What every worker is given.

    Attributes:
        config: of the run, with the GPUs decided.
        data: to learn from.
        put: writes a whole file of the output, by its name.
    """

    config: TrainConfig
    data: Data
    put: Callable[[str, bytes], None]

    @property
    def num_steps(self) -> int:
        optim = self.config.optim
        images = order.num_images(self.data.parts)
        return optim.steps or max(1, round(optim.epochs * images / optim.batch_size))


def fit(run: Run, storage: str) -> None:
    """Trains, and writes model/ and the measurements through `run.put`.

    Args:
        run: what to do.
        storage: where Ray Train keeps its checkpoints: an absolute path or s3://.

    Raises:
        ray.train.TrainingFailedError: more deaths than the config allows, or an error in a worker.
    """
    workers, progress = run.config.workers, run.config.progress
    trainer = TorchTrainer(
        train,
        train_loop_config={"run": run},
        scaling_config=ScalingConfig(
            num_workers=(workers.least, workers.num) if workers.least else workers.num,
            use_gpu=bool(workers.gpus),
            resources_per_worker={"CPU": 1, **({"GPU": workers.gpus} if workers.gpus else {})},
        ),
        run_config=RunConfig(
            name=CHECKPOINTS,
            storage_path=storage,
            failure_config=FailureConfig(max_failures=workers.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=progress.keep),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    trainer.fit()


def train(loop: dict[str, Any]) -> None:
    """What each worker does."""
    run: Run = loop["run"]
    config = run.config
    device = get_device()
    optimizer = Optimizer(config, run.num_steps, device)
    first_step, history = _restored(optimizer)
    rounds = stream.rounds(config, optimizer.num_workers)
    shares = _shares(run, optimizer, first_step, rounds)
    held_out = _held_out(run, optimizer)
    meter = Meter(optimizer)
    board = Board(run.put, history, first_step) if optimizer.rank == 0 else None

    for step in range(first_step, run.num_steps):
        started = time.monotonic()
        taken = next(shares)
        waited = time.monotonic() - started
        tokens = sum(int(share["attention_mask"].sum()) for share in taken)
        parts = optimizer.step(step, taken)
        done = step + 1
        last = done == run.num_steps
        log_now = last or done % config.progress.log_every == 0
        if log_now and device.type == "cuda":
            torch.cuda.synchronize(device)  # a step's time is known once its kernels have run
        meter.add(parts, tokens=tokens, wait_s=waited, step_s=time.monotonic() - started)

        line: Measured = {}
        report_now = False
        if log_now:
            rate = learning_rate(config, step, run.num_steps)
            line, report_now = meter.line(done, rate)
        if held_out and (last or done % config.progress.evaluate_every == 0):
            found = optimizer.evaluate(stream.in_batches(held_out, rounds))
            line |= {"step": done} | {f"held_out_{name}": value for name, value in found.items()}
        if board and line:
            board.add(line)
        if last or done % config.progress.checkpoint_every == 0:
            started = time.monotonic()
            _checkpoint(optimizer, done, line, board)
            meter.checkpoint_s = time.monotonic() - started
        elif report_now:
            _report(line)
    _export(optimizer, run)
    if board:
        board.close()


def _restored(optimizer: Optimizer) -> tuple[int, list[Measured]]:
    """The step to begin with, and the measurements of those before it."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0, []
    with checkpoint.as_directory() as folder:
        optimizer.restore(Path(folder))
        position = json.loads((Path(folder) / "position.json").read_text())
    return position["step"], position["history"]


def _shares(
    run: Run, optimizer: Optimizer, first_step: int, rounds: int
) -> Iterator[tuple[Batch, ...]]:
    """This worker's shares of each step from the first one on."""
    if first_step == run.num_steps:
        return iter(())
    iterators = None
    if optimizer.rank == 0:
        iterators = stream.training(
            run.config,
            run.data,
            first_step=first_step,
            num_steps=run.num_steps,
            num_workers=optimizer.num_workers,
        )
    return stream.in_batches(broadcast_from_rank_zero(iterators)[optimizer.rank], rounds)


def _held_out(run: Run, optimizer: Optimizer) -> Any | None:
    """What to iterate over at an evaluation, or None where nothing is held out."""
    if not run.data.held_out:
        return None
    iterators = None
    if optimizer.rank == 0:
        iterators = stream.evaluation(run.config, run.data, num_workers=optimizer.num_workers)
    return broadcast_from_rank_zero(iterators)[optimizer.rank]


def _checkpoint(optimizer: Optimizer, done: int, line: Measured, board: Board | None) -> None:
    """Saves all that the next steps depend on; the upload goes on beside them."""
    folder = Path(tempfile.mkdtemp())
    optimizer.save(folder)
    if board:
        position = {"step": done, "history": board.history}
        (folder / "position.json").write_text(json.dumps(position))
        board.write()
    _report(line, Checkpoint.from_directory(folder))


def _report(line: Measured, checkpoint: Checkpoint | None = None) -> None:
    # A synchronous report would wait for the controller, which takes one every two seconds.
    ray.train.report(
        dict(line), checkpoint=checkpoint, checkpoint_upload_mode=CheckpointUploadMode.ASYNC
    )


def _export(optimizer: Optimizer, run: Run) -> None:
    """Writes the tuned model. The other workers give what they hold of it."""
    name = run.config.model.name
    tuned = {}
    for loaded, weight in export.changed(optimizer.learner):
        if optimizer.rank == 0:
            tuned[loaded] = weight.cpu()
    if optimizer.rank == 0:
        original = export.check(name)
        for file, content in export.files(
            name, {original[loaded]: weight for loaded, weight in tuned.items()}
        ):
            run.put(f"{MODEL}/{file}", content)
