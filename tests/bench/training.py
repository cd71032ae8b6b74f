"""The trainer against bare PyTorch and Hugging Face's: `python -m tests.bench.training [--quick]`.

The same model, batches and loss, one torch thread each. The bare loop and Hugging Face's `Trainer`
are given batches that are ready in memory; ours reads records, makes batches of them, measures,
and saves checkpoints beside its steps. They take turns, and each ratio is the median over these
rounds. A step's first interval is left out: it waits for processes that start. Ends with lines
`ratio NAME MEDIAN MIN MAX`.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Ray starts workers with 15: ours would give way to whatever else runs here, the bare loop not.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray spells it so
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from torch import nn

from c3l_ray.distributed import cluster
from c3l_ray.inference.pack_attention import PackAttention
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes import world
from c3l_ray.train import fit
from c3l_ray.train.learning.learner import Learner
from c3l_ray.train.learning.loading import load_learner, trainable_parameters
from c3l_ray.train.learning.shared_rows import count_tokens
from c3l_ray.train.reading.batches import MicroBatch
from c3l_ray.train.reading.encode import encode_batch
from c3l_ray.train.reading.order import Schedule, plan_epochs
from c3l_ray.train.reading.sources import open_source
from c3l_ray.train.reading.training_data import TrainingData, load_training_data
from c3l_ray.train.training_config import ModelToTune, Optimization, Progress, TrainConfig
from tests.bench.random_llava import SIZES, write_checkpoint
from tests.train.records import write_run

NUM_SCENES = 64
NUM_IMAGE_TOKENS = 64
LOG_EVERY = 2
CPU = torch.device("cpu")


def make_config(folder: Path, name: Path, *, batch_size: int, steps: int) -> TrainConfig:
    return TrainConfig(
        input=(str(folder / "records"),),
        output=str(folder / "tuned"),
        model=ModelToTune(name=str(name)),
        optim=Optimization(batch_size=batch_size, micro_batch=batch_size, steps=steps),
        progress=Progress(log_every=LOG_EVERY, checkpoint_every=4, held_out=0.0),
    )


def make_batches(config: TrainConfig, data: TrainingData, steps: int) -> list[MicroBatch]:
    """The batches that the trainer's steps have, in memory."""
    schedule = Schedule(
        batch_size=config.optim.batch_size,
        seed=config.optim.seed,
        shuffle_window=config.optim.shuffle_window,
        first_step=0,
        num_steps=steps,
    )
    batches = []
    for window in plan_epochs(data.files, schedule):
        for step in window.rows.tolist():
            records = [data.read(data.files[file].address, [row])[0] for file, row in step]
            batches += list(encode_batch(records, config, {}, num_workers=1, accumulation_steps=1))
    return batches


def measure_fit(config: TrainConfig, data: TrainingData) -> dict[str, float]:
    """Tokens per second of the steps after the first interval, and what they waited and saved."""
    with tempfile.TemporaryDirectory() as folder:
        output = RunFolder.open(folder)
        fit.fit(fit.TrainingRun(config=config, data=data, write=output.write), folder)
        lines = json.loads((Path(folder) / "measurements.json").read_text())[1:]
    steps = [line["seconds_per_step"] for line in lines]
    tokens = sum(line["tokens_per_s"] * line["seconds_per_step"] for line in lines)
    wait_s = sum(line["data_wait_share"] * line["seconds_per_step"] for line in lines)
    checkpoint_s = [line["checkpoint_s"] for line in lines if line.get("checkpoint_s") is not None]
    return {
        "tokens_per_s": tokens / sum(steps),
        "data_wait_share": wait_s / sum(steps),
        "checkpoint_s": statistics.median(checkpoint_s),
        "step_s": statistics.median(steps),
    }


def load_sharing_learner(config: TrainConfig) -> Learner:
    """The learner, whose texts share prefixes as those of the trainer do."""
    learner = load_learner(config, torch.float32, CPU)
    learner.attention = PackAttention(learner.head.vlm.config)
    return learner


def measure_bare_loop(config: TrainConfig, batches: list[MicroBatch]) -> float:
    """Tokens per second of a plain loop over the same batches, its first steps left out."""
    learner = load_sharing_learner(config).train()
    parameters = [parameter for _, parameter in trainable_parameters(learner)]
    adamw = torch.optim.AdamW(parameters, lr=config.peak_learning_rate, betas=config.optim.betas)
    started, tokens = 0.0, 0
    for step, batch in enumerate(batches):
        if step == LOG_EVERY:
            started = time.monotonic()
        (learner(batch)["loss"] / config.optim.batch_size).backward()
        nn.utils.clip_grad_norm_(parameters, config.optim.max_grad_norm)
        adamw.step()
        adamw.zero_grad()
        tokens += count_tokens(batch, is_shared=True) if step >= LOG_EVERY else 0
    return tokens / (time.monotonic() - started)


class HuggingFaceModel(nn.Module):
    """The learner with the inputs and the output that Hugging Face's `Trainer` expects."""

    def __init__(self, learner: Learner, batch_size: int) -> None:
        super().__init__()
        self.learner = learner
        self.batch_size = batch_size

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.learner(batch)["loss"] / self.batch_size}


def measure_hugging_face(config: TrainConfig, batches: list[MicroBatch]) -> float:
    """Tokens per second of `Trainer` over the same batches, without its checkpoints."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    clock: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.append(time.monotonic())

    learner = load_sharing_learner(config)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=HuggingFaceModel(learner, config.optim.batch_size),
            args=TrainingArguments(
                output_dir=folder,
                max_steps=len(batches),
                per_device_train_batch_size=1,
                learning_rate=config.peak_learning_rate,
                lr_scheduler_type="cosine",
                max_grad_norm=config.optim.max_grad_norm,
                logging_steps=LOG_EVERY,
                save_strategy="no",
                report_to=[],
                remove_unused_columns=False,
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=batches,
            data_collator=lambda items: items[0],
            callbacks=[Clock()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    # The order is its own; all batches have nearly the same number of tokens.
    tokens = statistics.mean(count_tokens(batch, is_shared=True) for batch in batches)
    return tokens * (len(clock) - LOG_EVERY) / (clock[-1] - clock[LOG_EVERY - 1])


def list_models(folder: Path, quick: bool) -> Iterator[tuple[str, Path, int, int]]:
    """Name, checkpoint, batch size and steps of each model."""
    yield "tiny", world.LLAVA, 8, 12 if quick else 22
    large = write_checkpoint(folder / "100m", SIZES["100m"], NUM_IMAGE_TOKENS)
    yield "100m", large, 1, 6 if quick else 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps and two rounds")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 2 if options.quick else options.rounds
    ratios: dict[str, list[float]] = {}
    cluster.connect(3)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_run(folder / "records", num_scenes=NUM_SCENES, scenes_per_file=16)
        print(f"{torch.__version__}, one thread, {rounds} rounds")
        print("| model | tokens/s ours | bare | Trainer | waiting | step | checkpoint |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
        for name, path, batch_size, steps in list_models(folder, options.quick):
            config = make_config(folder, path, batch_size=batch_size, steps=steps)
            data = load_training_data(open_source(config), config)
            batches = make_batches(config, data, steps)
            for _ in range(rounds):
                speeds = {
                    "bare": measure_bare_loop(config, batches),
                    "hf": measure_hugging_face(config, batches),
                }
                measured = measure_fit(config, data)
                print(
                    f"| {name} | {measured['tokens_per_s']:.0f} | {speeds['bare']:.0f} "
                    f"| {speeds['hf']:.0f} | {measured['data_wait_share']:.1%} "
                    f"| {measured['step_s']:.2f} s | {measured['checkpoint_s']:.2f} s |",
                    flush=True,
                )
                suffix = "" if name == "100m" else f"_{name}"
                for ratio, value in {
                    "trainer_over_bare": measured["tokens_per_s"] / speeds["bare"],
                    "trainer_over_hf_trainer": measured["tokens_per_s"] / speeds["hf"],
                    "data_wait_share": measured["data_wait_share"],
                    "checkpoint_over_step": measured["checkpoint_s"] / measured["step_s"],
                }.items():
                    ratios.setdefault(ratio + suffix, []).append(value)
    for ratio, values in ratios.items():
        print(f"ratio {ratio} {statistics.median(values):.3f} {min(values):.3f} {max(values):.3f}")


if __name__ == "__main__":
    main()
