"""What a training step keeps in memory: `python -m tests.bench.memory`.

Counts the bytes that autograd keeps for the backward pass of one micro-batch, by saved-tensor
hooks, of a random LLaVA with the proportions of LLaVA-1.5-7B, in bfloat16, LoRA on all linear
layers. Two depths give the bytes a token and layer; what does not grow with the depth (vision
tower, embeddings, head) is the rest. Ends with the same for the real 7B, by arithmetic.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch

from c3l_ray.inference.pack_attention import PackAttention
from c3l_ray.train.learning.learner import Learner
from c3l_ray.train.learning.loading import load_learner
from c3l_ray.train.reading.batches import MicroBatch
from c3l_ray.train.training_config import ModelToTune, Optimization, TrainConfig
from tests.bench.random_llava import LlavaSize, write_checkpoint
from tests.train.learning.builders import encode_scenes, measure_kept_bytes

WIDTH, DEPTHS = 512, (2, 4)
NUM_IMAGE_TOKENS = 576
NUM_IMAGES = 2
WIDTH_7B, DEPTH_7B, MICRO_BATCH_7B = 4096, 32, 4
# Of a row of LLaVA-1.5: the image, the instruction, a turn; five turns an image.
IMAGE_7B, INSTRUCTION_7B, TURN_7B, TURNS_7B = 576, 45, 80, 5
CPU = torch.device("cpu")


def make_size(depth: int) -> LlavaSize:
    """The proportions of Vicuna-7B: width, 2.6875 times as wide inside, heads of 128."""
    text = {"hidden_size": WIDTH, "intermediate_size": WIDTH * 11008 // 4096}
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_heads": 2}
    return LlavaSize({**text, "num_hidden_layers": depth, "num_heads": WIDTH // 128}, vision)


def load(folder: Path, *, twice: Any, shares: bool) -> tuple[Learner, MicroBatch]:
    config = TrainConfig(
        input=(),
        output="",
        model=ModelToTune(name=str(folder), precision="bfloat16", activation_checkpointing=twice),
        optim=Optimization(batch_size=NUM_IMAGES),
    )
    learner = load_learner(config, torch.bfloat16, CPU).train()
    if shares:
        learner.attention = PackAttention(learner.head.vlm.config)
    return learner, encode_scenes(config, *range(NUM_IMAGES))


def measure(learner: Learner, micro_batch: MicroBatch) -> tuple[int, int]:
    """Bytes kept of a micro-batch, and the tokens of its rows."""
    num_tokens: list[int] = []
    learner.head.vlm.base_model.register_forward_pre_hook(
        lambda _model, _args, inputs: num_tokens.append(inputs["input_ids"].numel()),
        with_kwargs=True,
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            learner(micro_batch)  # the first proves the output head
        with measure_kept_bytes(learner) as kept:
            learner(micro_batch)
    return kept.total, num_tokens[-1]


def main() -> None:
    torch.set_num_threads(1)
    tokens_7b = {
        False: TURNS_7B * (IMAGE_7B + INSTRUCTION_7B + TURN_7B) * MICRO_BATCH_7B,
        True: (IMAGE_7B + INSTRUCTION_7B + TURNS_7B * TURN_7B) * MICRO_BATCH_7B,
    }
    print("| activations | prefixes | tokens | kept | a token and layer | 7B, micro-batch 4 |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as temporary:
        folders = {
            depth: write_checkpoint(
                Path(temporary) / str(depth), make_size(depth), NUM_IMAGE_TOKENS
            )
            for depth in DEPTHS
        }
        for twice in ("off", "on"):
            for shares in (False, True):
                measured = [
                    measure(*load(folders[depth], twice=twice, shares=shares)) for depth in DEPTHS
                ]
                (few, num_tokens), (many, _) = measured
                per_layer = (many - few) / (DEPTHS[1] - DEPTHS[0]) / num_tokens / WIDTH
                gib = per_layer * tokens_7b[shares] * WIDTH_7B * DEPTH_7B / 2**30
                print(
                    f"| {'once' if twice == 'off' else 'twice'} | "
                    f"{'shared' if shares else 'their own'} | {num_tokens} | "
                    f"{many / 2**20:.0f} MiB | {per_layer:.1f} x width | {gib:.1f} GiB |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
