"""Scoring and training of a 7B on a GPU: `python -m tests.gpu.check [--tiny]`.

Makes a random LLaVA of the size of LLaVA-1.5-7B in bfloat16, and prints a table: packed scoring
against plain, the float32 output head, one training step's memory at the defaults and without them,
tokens per second and MFU of scorer and learner. Takes under eight minutes on an H100 and 20 GB of
disk. Needs torch, transformers, peft, open_clip and pyarrow, and neither vLLM nor Ray. `--tiny`
does the same with a tiny model, on a CPU too. Exit status 1: a check failed.
"""

import argparse
import dataclasses
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

try:
    import tyro  # noqa: F401  # only help texts need it
except ImportError:
    stand_in: Any = ModuleType("tyro")
    stand_in.conf = SimpleNamespace(arg=lambda **_: None)
    sys.modules["tyro"] = stand_in
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from PIL import Image

from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.packing import PackingError
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.scorer_checks import check_packing, find_logit_transform
from c3l_ray.inference.scoring_model import ScoringModel, TurnToScore
from c3l_ray.model_config import ScorerModel
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.render import render_scene
from c3l_ray.train.learning.metrics import count_flops_per_token
from c3l_ray.train.learning.trainer import Trainer
from c3l_ray.train.reading.batches import MicroBatch, make_micro_batch
from c3l_ray.train.reading.chat_text import Example, reply_text
from c3l_ray.train.training_config import ModelToTune, Optimization, TrainConfig
from tests.bench.random_llava import SIZES, LlavaSize, write_checkpoint
from tests.gpu.measure import NUM_REPEATS, Device, Table

LLAVA_7B = LlavaSize(
    {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_heads": 32},
    {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_heads": 16},
)
NUM_TURNS = 5
WORDS = ("red", "circle", "the", "is", "at", "top", "left", "blue", "star", "large", "there")
INSTRUCTION_WORDS, TURN_WORDS = 40, 70


def draw_images(num_images: int) -> list[Image.Image]:
    return [
        render_scene(draw_scene(seed)).resize((640, 480), Image.Resampling.BICUBIC)
        for seed in range(num_images)
    ]


def make_turns(num_images: int) -> list[TurnToScore]:
    rng = random.Random(0)
    return [
        TurnToScore(
            image=image,
            question=" ".join(rng.choices(WORDS, k=TURN_WORDS // 2)),
            answer=" ".join(rng.choices(WORDS, k=TURN_WORDS // 2)),
        )
        for image in draw_images(num_images)
        for _ in range(NUM_TURNS)
    ]


def make_batch(processor: Any, num_images: int) -> MicroBatch:
    """A micro-batch of c3l: five turns of each image, as replies to one instruction."""
    rng = random.Random(0)

    def words(number: int) -> str:
        return " ".join(rng.choices(WORDS, k=number))

    examples = []
    for image in draw_images(num_images):
        instruction = words(INSTRUCTION_WORDS)
        texts = tuple(
            reply_text(processor, instruction, words(TURN_WORDS), target=not turn, anchor=not turn)
            for turn in range(NUM_TURNS)
        )
        examples.append(Example(image=image, texts=texts, num_turns=NUM_TURNS))
    return make_micro_batch(examples, [1.0] * num_images, processor)


@torch.inference_mode()
def check_head(model: ScoringModel, table: Table) -> None:
    """The output head in float32 against float64."""
    generator = torch.Generator(model.device).manual_seed(0)
    weight_VD = model.head.weight
    shape = (64, weight_VD.shape[1])
    hidden_ND = torch.randn(shape, generator=generator, device=model.device).to(weight_VD.dtype)
    expected_NV = hidden_ND.double() @ weight_VD.double().T
    error = float((model.head_logits(hidden_ND).double() - expected_NV).abs().max())
    rounded = float((model.head(hidden_ND).double() - expected_NV).abs().max())
    table.add(
        "output head in float32, largest error (rounded to bfloat16)",
        f"{error:.1e} ({rounded:.1e})",
        error < 1e-3 and error < rounded / 10,
    )


def check_scorer(folder: Path, num_images: int, device: Device, table: Table) -> None:
    """Packed scoring against plain."""
    model = ScoringModel(ScorerModel(dtype="bfloat16"), str(folder))
    model.logit_transform = find_logit_transform(model)
    check_head(model, table)
    plain, packed = PlainScorer(model), PackedScorer(model)
    try:
        check_packing(model, packed, plain)
        table.add("packs at the start", "as plain", True)
    except PackingError as error:
        table.add("packs at the start", str(error), False)
    turns = make_turns(num_images)
    plain_evidence, packed_evidence = plain.measure(turns), packed.measure(turns)
    for side in ("image_logprobs", "text_logprobs"):
        differences = np.concatenate(
            [
                np.abs(getattr(left, side) - getattr(right, side))
                for left, right in zip(plain_evidence, packed_evidence, strict=True)
            ]
        )
        table.add(
            f"{side}, packed against plain, mean and largest",
            f"{differences.mean():.3f}, {differences.max():.3f} nats",
            bool(differences.mean() < 0.05),
        )
    num_tokens: list[int] = []
    hook = model.vlm.base_model.register_forward_pre_hook(
        lambda _model, _args, inputs: num_tokens.append(inputs["input_ids"].numel()),
        with_kwargs=True,
    )
    weights = sum(weight.numel() for weight in model.vlm.get_decoder().parameters())
    speeds = {}
    for name, scorer in (("plain", plain), ("packed", packed)):
        num_tokens.clear()
        seconds, peak = device.measure(lambda: scorer.measure(turns))  # noqa: B023
        tokens = sum(num_tokens) / NUM_REPEATS
        speeds[name] = num_images / seconds
        table.add(
            f"scorer, {name}",
            f"{num_images / seconds:.1f} images/s, {tokens / seconds:,.0f} tokens/s, "
            f"{device.mfu(2 * weights * tokens, seconds)}, {peak}",
        )
    hook.remove()
    table.add("packed over plain", f"{speeds['packed'] / speeds['plain']:.2f}")


def list_steps(folder: Path, num_images: int) -> Iterator[tuple[str, TrainConfig, bool]]:
    """What a step is tried with: a name, the config, and whether prefixes are shared."""
    config = TrainConfig(
        input=(),
        output="",
        model=ModelToTune(name=str(folder), precision="bfloat16"),
        optim=Optimization(batch_size=num_images, micro_batch=num_images),
    )
    once = dataclasses.replace(
        config, model=dataclasses.replace(config.model, activation_checkpointing="off")
    )
    yield "defaults: activations twice, prefixes shared", config, True
    yield "activations twice, rows of their own", config, False
    yield "activations once, prefixes shared", once, True
    yield "activations once, rows of their own", once, False


def check_learner(folder: Path, num_images: int, device: Device, table: Table) -> None:
    """One training step with prefix sharing and without, activations once and twice."""
    from transformers import AutoProcessor

    micro_batch = make_batch(AutoProcessor.from_pretrained(folder), num_images)
    measured: dict[str, tuple[float, float]] = {}
    for name, config, shares in list_steps(folder, num_images):
        try:
            measured[name] = measure_step(name, config, shares, micro_batch, device, table)
        except torch.OutOfMemoryError:
            table.add(f"step of {num_images} images, {name}", "out of memory")
        device.free()
    names = list(measured)
    loss, norm = measured[names[0]]
    for name in names[1:]:
        table.add(
            f"loss and gradient norm, {name}",
            f"{measured[name][0]:.4f}, {measured[name][1]:.4f} (defaults {loss:.4f}, {norm:.4f})",
            abs(measured[name][0] / loss - 1) < 0.02 and abs(measured[name][1] / norm - 1) < 0.1,
        )


def measure_step(
    name: str,
    config: TrainConfig,
    shares: bool,
    micro_batch: MicroBatch,
    device: Device,
    table: Table,
) -> tuple[float, float]:
    """The loss and the gradient's norm of a first step."""
    trainer = Trainer(config, 1000, device.torch)
    if shares:
        notes = trainer.share_prefixes(micro_batch)
        table.add(f"{name}: proved", "; ".join(notes) or "as rows of their own", not notes)
    num_tokens: list[int] = []
    trainer.learner.head.vlm.base_model.register_forward_pre_hook(
        lambda _model, _args, inputs: num_tokens.append(inputs["input_ids"].numel()),
        with_kwargs=True,
    )
    first = trainer.step(0, [micro_batch])
    num_tokens.clear()
    seconds, peak = device.measure(lambda: trainer.step(1, [micro_batch]))
    tokens, num_images = sum(num_tokens) / NUM_REPEATS, config.optim.batch_size
    table.add(
        f"step of {num_images} images, {name}",
        f"{num_images / seconds:.1f} images/s, {tokens / seconds:,.0f} tokens/s, "
        f"{device.mfu(count_flops_per_token(trainer) * tokens, seconds)}, {peak}",
    )
    return float(first["loss"]), float(first["grad_norm"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a tiny model, on a CPU too")
    options = parser.parse_args()
    device = Device()
    if not device.is_gpu and not options.tiny:
        print("no GPU is here; --tiny runs the same checks of a tiny model on a CPU")
        return 2
    card = torch.cuda.get_device_name() if device.is_gpu else "CPU"
    print(f"{card}, torch {torch.__version__}\n")
    started = time.monotonic()
    table = Table()
    size, num_image_tokens = (SIZES["tiny"], 64) if options.tiny else (LLAVA_7B, 576)
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_checkpoint(
            Path(temporary),
            size,
            num_image_tokens,
            vocabulary=1024 if options.tiny else 32_064,
            dtype=torch.bfloat16,
            device=str(device.torch),
        )
        device.free()
        table.add("checkpoint made", f"{time.monotonic() - started:.0f} s")
        check_scorer(folder, 2 if options.tiny else 16, device, table)
        device.free()
        check_learner(folder, 2 if options.tiny else 4, device, table)
    table.add("all", f"{time.monotonic() - started:.0f} s")
    return int(table.num_failures > 0)


if __name__ == "__main__":
    sys.exit(main())
