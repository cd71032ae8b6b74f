"""The run on Ray Train: workers, measurements, checkpoints, and what happens when a worker dies.

A worker that dies takes its group with it. Ray Train starts the group again, smaller or larger
where `--workers.min` allows, and it resumes from the latest checkpoint. The same command does so
after the death of the driver. Steps since that checkpoint are done again, and come out the same up
to rounding: on a CPU bit for bit, on a GPU not, as its backward passes add in no fixed order.
"""

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
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

from c3l_ray.distributed.stop_flag import StopFlag
from c3l_ray.train.held_out import HeldOut
from c3l_ray.train.learning import export
from c3l_ray.train.learning.metrics import MeasurementLine, MeasurementLog, MetricAccumulator
from c3l_ray.train.learning.trainer import Trainer, learning_rate_at
from c3l_ray.train.reading import stream
from c3l_ray.train.reading.batches import MicroBatch
from c3l_ray.train.reading.encode import stop_at_empty_batches
from c3l_ray.train.reading.training_data import TrainingData
from c3l_ray.train.snapshot import POSITION, mend_snapshot
from c3l_ray.train.training_config import TrainConfig

CHECKPOINTS_FOLDER = "checkpoints"
MODEL_FOLDER = "model"
ADAPTER_FOLDER = "adapter"
NOTES = "notes.json"
STOPPED = "stopped.json"


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a checkpoint stands in its run.

    Attributes:
        step: steps done.
        measurements: the lines of these steps.
        skipped: images of these steps that were skipped, by reason.
    """

    step: int
    measurements: list[MeasurementLine]
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """What every worker is given.

    Attributes:
        config: of the run, with the GPUs decided.
        data: to learn from.
        write: writes a whole file of the output, by its name.
        flag: at which the workers save a checkpoint and end.
    """

    config: TrainConfig
    data: TrainingData
    write: Callable[[str, bytes], None]
    flag: StopFlag = field(default_factory=StopFlag)

    @property
    def num_steps(self) -> int:
        optim = self.config.optim
        examples = self.data.epoch_size
        return optim.steps or max(1, round(optim.epochs * examples / optim.batch_size))


def fit(run: TrainingRun, storage_path: str) -> int:
    """Trains, and writes model/, the measurements and the notes through `run.write`.

    Where the flag is put up it ends after the step under way, with a checkpoint and no model.

    Args:
        run: what to do.
        storage_path: where Ray Train keeps its checkpoints: an absolute path or s3://.

    Returns:
        The steps done.

    Raises:
        OSError: the storage failed.
        ray.train.TrainingFailedError: more deaths than the config allows, or an error in a worker.
    """
    mend_snapshot(f"{storage_path}/{CHECKPOINTS_FOLDER}")
    workers, progress = run.config.workers, run.config.progress
    ray_trainer = TorchTrainer(
        run_worker,
        train_loop_config={"run": run},
        scaling_config=ScalingConfig(
            num_workers=(workers.min, workers.num) if workers.min else workers.num,
            use_gpu=bool(workers.gpus),
            resources_per_worker={"CPU": 1, **({"GPU": workers.gpus} if workers.gpus else {})},
        ),
        run_config=RunConfig(
            name=CHECKPOINTS_FOLDER,
            storage_path=storage_path,
            failure_config=FailureConfig(max_failures=workers.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=progress.keep_checkpoints),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    metrics = ray_trainer.fit().metrics or {}
    return int(metrics.get("step", 0))


def run_worker(loop_config: dict[str, Any]) -> None:
    """What each worker does.

    Args:
        loop_config: as Ray Train passes it on: the TrainingRun under "run".
    """
    run: TrainingRun = loop_config["run"]
    config = run.config
    device = get_device()
    trainer = Trainer(config, run.num_steps, device)
    position = _restore_checkpoint(trainer)
    first_step = position.step
    accumulation_steps = config.optim.count_accumulation_steps(trainer.num_workers)
    batches = _open_batches(run, trainer, first_step, accumulation_steps)
    batches, notes = _prepare_trainer(trainer, stop_at_empty_batches(batches, first_step, config))
    held_out = HeldOut(config, run.data, trainer, position.measurements)
    metrics = MetricAccumulator(trainer, position.skipped)
    measurement_log = None
    first_line = held_out.measure_first_share()
    if trainer.rank == 0:
        measurement_log = MeasurementLog(run.write, position.measurements, first_step)
        if first_line:
            measurement_log.add({"step": first_step, **first_line})
        if first_step < run.num_steps:  # else nothing was proved again
            run.write(NOTES, json.dumps([*notes, *held_out.notes]).encode())
    saved_step = first_step

    for step in range(first_step, run.num_steps):
        started = time.monotonic()
        batch = next(batches)
        wait_s = time.monotonic() - started
        tokens = trainer.count_tokens(batch)
        sums = trainer.step(step, batch)
        steps_done = step + 1
        is_last = steps_done == run.num_steps
        log_now = is_last or steps_done % config.progress.log_every == 0
        if log_now and device.type == "cuda":
            torch.cuda.synchronize(device)  # a step's time is known once its kernels have run
        metrics.add(
            sums,
            tokens=tokens,
            skipped_S=torch.stack([micro_batch["skipped_S"] for micro_batch in batch]).sum(dim=0),
            wait_s=wait_s,
            step_s=time.monotonic() - started,
        )

        line: MeasurementLine = {}
        report_now = False
        if log_now:
            learning_rate = learning_rate_at(config, step, run.num_steps)
            line, report_now = metrics.take_line(steps_done, learning_rate)
        evaluate_now = is_last or steps_done % config.progress.evaluate_every == 0
        save_now = is_last or steps_done % config.progress.checkpoint_every == 0
        measured = held_out.evaluate(accumulation_steps) if evaluate_now else {}
        measured |= held_out.measure_share() if evaluate_now or save_now else {}
        line |= {"step": steps_done, **measured} if measured else {}
        if measurement_log and line:
            measurement_log.add(line)
        if reason := held_out.explain_stop(measured):
            if measurement_log:
                measurement_log.close()
                stop = {"reason": reason, "step": steps_done, "saved_step": saved_step}
                run.write(STOPPED, json.dumps(stop).encode())
            return
        stops = trainer.agree(trainer.rank == 0 and run.flag.is_up())
        if save_now or stops:
            started = time.monotonic()
            line |= {"step": steps_done}
            _save_checkpoint(trainer, metrics, steps_done, line, measurement_log)
            metrics.checkpoint_s = time.monotonic() - started
            saved_step = steps_done
            if stops and not is_last:
                break
        elif report_now:
            _report(line)
    else:
        _write_model(trainer, run)
    if measurement_log:
        measurement_log.close()


def _restore_checkpoint(trainer: Trainer) -> Position:
    """Where to begin."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return Position(step=0, measurements=[])
    with checkpoint.as_directory() as folder:
        trainer.restore(Path(folder))
        return Position(**json.loads((Path(folder) / POSITION).read_text()))


def _open_batches(
    run: TrainingRun, trainer: Trainer, first_step: int, accumulation_steps: int
) -> Iterator[tuple[MicroBatch, ...]]:
    """This worker's micro-batches of each step from the first one on."""
    if first_step == run.num_steps:
        return iter(())
    iterators = None
    if trainer.rank == 0:
        iterators = stream.stream_training(
            run.config,
            run.data,
            first_step=first_step,
            num_steps=run.num_steps,
            num_workers=trainer.num_workers,
        )
    own_iterator = broadcast_from_rank_zero(iterators)[trainer.rank]
    return stream.iter_batches(own_iterator, accumulation_steps)


def _prepare_trainer(
    trainer: Trainer, batches: Iterator[tuple[MicroBatch, ...]]
) -> tuple[Iterator[tuple[MicroBatch, ...]], list[str]]:
    """The same batches, after the trainer has been proved on the first, and notes on that."""
    first_batch = next(batches, None)
    if first_batch is None:
        return iter(()), []
    notes = trainer.share_prefixes(first_batch[0])
    return chain([first_batch], batches), notes


def _save_checkpoint(
    trainer: Trainer,
    metrics: MetricAccumulator,
    steps_done: int,
    line: MeasurementLine,
    measurement_log: MeasurementLog | None,
) -> None:
    """Saves all that the next steps depend on; the upload goes on beside them."""
    folder = Path(tempfile.mkdtemp())
    trainer.save(folder)
    skipped = metrics.count_skipped()
    if measurement_log:
        position = Position(
            step=steps_done, measurements=measurement_log.measurements, skipped=skipped
        )
        (folder / POSITION).write_text(json.dumps(dataclasses.asdict(position)))
        measurement_log.write_files()
    _report(line, Checkpoint.from_directory(folder))


def _report(line: MeasurementLine, checkpoint: Checkpoint | None = None) -> None:
    # A synchronous report would wait for the controller, which takes one every two seconds.
    ray.train.report(
        dict(line), checkpoint=checkpoint, checkpoint_upload_mode=CheckpointUploadMode.ASYNC
    )


def _write_model(trainer: Trainer, run: TrainingRun) -> None:
    """Writes the tuned model. The other workers give what they hold of it."""
    name, revision = run.config.model.name, run.config.model.revision
    gathered = export.gather_tuned_weights(trainer.learner)
    tuned_weights = {path: weight.cpu() for path, weight in gathered if trainer.rank == 0}
    if trainer.rank == 0:
        original_names = export.map_weight_names(name, revision)
        tuned = {original_names[loaded]: weight for loaded, weight in tuned_weights.items()}
        for file, content in export.make_model_files(name, tuned, revision):
            run.write(f"{MODEL_FOLDER}/{file}", content)
    if run.config.export == "adapter":
        adapter = dict(export.gather_adapter_weights(trainer.learner))
        if trainer.rank == 0:
            for file, content in export.make_adapter_files(
                name, trainer.learner, adapter, revision
            ):
                run.write(f"{ADAPTER_FOLDER}/{file}", content)
