"""How much memory a worker needs, by arithmetic: what cannot fit is refused before the start.

The estimate is a lower bound: weights, gradients, the optimizer's moments, and what is kept of a
micro-batch of the first images. What a device's kernels, its allocator and the gathering of shards
take comes on top.
"""

import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from c3l_ray.errors import PreflightError
from c3l_ray.inference.pack_attention import PackAttention
from c3l_ray.inference.packing import PackingError
from c3l_ray.model_files import find_model_folder, resolve_model
from c3l_ray.train.learning.export import read_shapes
from c3l_ray.train.learning.loading import add_gradients, make_weightless_model
from c3l_ray.train.learning.output_head import MAX_LOGITS
from c3l_ray.train.learning.shared_rows import count_tokens
from c3l_ray.train.objectives import TuneMode
from c3l_ray.train.reading.batches import MicroBatch
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.train.tuning_config import ModelName

log = logging.getLogger(__name__)

GIB = 2**30
HALF, SINGLE = 2, 4  # bytes of a number
# What autograd keeps of a token in a layer, times the width, in bfloat16, by `tests.bench.memory`
# for LoRA on all linear layers; without LoRA it was 34.7 for the adapter, and more for all weights.
# Where activations are computed twice, it is kept of one layer at a time, beside KEPT_TWICE of all.
KEPT_ONCE: dict[TuneMode, float] = {"lora": 52.0, "full": 34.0, "adapter": 34.0}
KEPT_TWICE = 2.0
WEIGHTS_SHARE = 0.8
"""Of a GPU's memory, for the weights of an engine: its cache and its kernels take a tenth."""


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes that a worker needs on a device that computes in bfloat16.

    Attributes:
        weights: of the model, or this worker's share of them.
        gradients: of the weights that learn, and AdamW's two moments of each.
        activations: kept of a micro-batch for its backward pass.
        logits: of a chunk of tokens, and their gradients.
        tokens: of the micro-batch's rows, where its images are like the first ones on average.
        longest: the same where all of them are like the longest.
        layers: of the language half.
        width: of the language half.
    """

    weights: int
    gradients: int
    activations: int
    logits: int
    tokens: int
    longest: int
    layers: int
    width: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.activations + self.logits

    def at_longest(self) -> "MemoryEstimate":
        """The estimate for a micro-batch of images that are all like the longest."""
        activations = round(self.activations * self.longest / max(1, self.tokens))
        return dataclasses.replace(self, activations=activations, tokens=self.longest)

    def describe(self) -> str:
        """The sum in words."""
        return (
            f"{self.weights / GIB:.1f} GiB of weights + {self.gradients / GIB:.1f} of gradients "
            f"and AdamW's moments + {self.activations / GIB:.1f} of activations ({self.tokens:,} "
            f"tokens, {self.layers} layers of width {self.width:,}) + {self.logits / GIB:.1f} of "
            f"logits = {self.total / GIB:.1f} GiB"
        )


def check_memory(
    config: TrainConfig, first_images: Sequence[MicroBatch], device_bytes: int | None
) -> MemoryEstimate | None:
    """Refuses a training that cannot fit into a device's memory.

    Warns of one whose longest images do not fit.

    Args:
        config: of the run.
        first_images: micro-batches of one image each, as examples of the tokens that one has.
        device_bytes: of a worker's GPU; None where workers compute on CPUs, which is not checked.

    Raises:
        PreflightError: it cannot fit; with the sum, and the flags that make it smaller.
    """
    if device_bytes is None or not first_images:
        return None
    estimate = estimate_memory(config, first_images)
    longest = estimate.at_longest()
    if longest.total <= device_bytes:
        return estimate
    if estimate.total <= device_bytes:
        log.warning(
            "a micro-batch of images that are all like the longest of the first %d needs %s, and "
            "a worker's GPU has %.1f; to be safe, %s",
            *(len(first_images), longest.describe(), device_bytes / GIB),
            " or ".join(_list_remedies(config, longest)),
        )
        return estimate
    raise PreflightError(
        f"--model.name {config.model.name}: a worker needs {estimate.describe()}, and its GPU has "
        f"{device_bytes / GIB:.1f}; " + " or ".join(_list_remedies(config, estimate))
    )


def estimate_memory(config: TrainConfig, first_images: Sequence[MicroBatch]) -> MemoryEstimate:
    """What a worker of a run needs, if it computes in bfloat16 and fills its micro-batch.

    Args:
        config: of the run.
        first_images: as for `check_memory`.
    """
    vlm = make_weightless_model(config.model.name, config.model.revision)
    vlm_config: Any = vlm.config
    with torch.device("meta"):
        model = add_gradients(vlm, config)
    learnt = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    frozen = sum(weight.numel() for weight in model.parameters() if not weight.requires_grad)
    shares = config.workers.num if config.workers.sharding == "fsdp" else 1
    frozen_bytes = frozen * (SINGLE if config.tune_mode == "full" else HALF)
    text_config = vlm_config.get_text_config()
    layers, width = text_config.num_hidden_layers, text_config.hidden_size
    tokens_of_images = [_count_tokens(image, vlm_config) for image in first_images]
    size = min(config.optim.micro_batch, -(-config.optim.batch_size // config.workers.num))
    tokens = round(sum(tokens_of_images) / len(first_images) * size)
    is_twice = config.model.activation_checkpointing != "off"
    kept_once = KEPT_ONCE[config.tune_mode]
    kept_layers = layers * KEPT_TWICE + kept_once if is_twice else layers * kept_once
    return MemoryEstimate(
        weights=(frozen_bytes + learnt * SINGLE) // shares,
        gradients=3 * learnt * SINGLE // shares,
        activations=round(tokens * width * kept_layers),
        logits=3 * MAX_LOGITS * SINGLE,
        tokens=tokens,
        longest=max(tokens_of_images) * size,
        layers=layers,
        width=width,
    )


def _count_tokens(image: MicroBatch, vlm_config: Any) -> int:
    """The places that the rows of one image's texts have: shared where the model's layers can."""
    try:
        PackAttention(vlm_config)
    except PackingError:
        return image["input_ids"].numel()
    return count_tokens(image, is_shared=True)


def _list_remedies(config: TrainConfig, estimate: MemoryEstimate) -> Iterator[str]:
    """The flags that would need less."""
    if config.model.activation_checkpointing == "off":
        yield f"leave out {config.flag('model.activation_checkpointing')} off"
    if config.optim.micro_batch > 1 and estimate.activations > estimate.total / 10:
        yield f"lower {config.flag('optim.micro_batch')} {config.optim.micro_batch}"
    if config.workers.sharding == "ddp":
        flag = config.flag("workers.sharding")
        yield f"share the weights among several workers: {flag} fsdp"
    else:
        yield f"take more workers than {config.flag('workers.num')} {config.workers.num}"
    if config.tune_mode == "full":
        yield f"tune less of it: {config.flag('model.tune')} lora"


def count_engine_gpus(model: ModelName, device_bytes: int, max_gpus: int) -> int | None:
    """GPUs that share one copy of a model's weights in vLLM, as few as hold it.

    vLLM gives each the same number of attention heads.

    Args:
        model: that is tuned.
        device_bytes: memory of a GPU.
        max_gpus: that there are.

    Returns:
        How many; None where so many do not hold it.
    """
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(resolve_model(model.name, model.revision))
    num_heads = config.get_text_config().num_attention_heads
    needed = math.ceil(count_engine_bytes(model) / (WEIGHTS_SHARE * device_bytes))
    numbers = range(max(1, needed), max_gpus + 1)
    return next((number for number in numbers if num_heads % number == 0), None)


def count_engine_bytes(model: ModelName) -> int:
    """Bytes of a model's weights in vLLM, which computes with none in float32 by itself."""
    shapes = read_shapes(find_model_folder(model.name, model.revision))
    return HALF * sum(math.prod(shape) for shape in shapes.values())
