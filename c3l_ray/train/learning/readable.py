"""Whether the tuned model still writes replies that can be read: a few of them, while it learns.

A contrast of answers can damage the language of a model while its loss falls. So the model writes
replies to instructions about held-out images now and then, and the share of them in which a
question and an answer can be told apart is measured.

A reply's random numbers are those of its own number, whatever else is computed beside it: the same
prompts draw alike at each measurement and by any number of workers, so that what differs is what
was learnt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import LogitsProcessor

from c3l_ray import chat
from c3l_ray.methods import c3l
from c3l_ray.train.learning.learner import bare_model
from c3l_ray.train.learning.trainer import Trainer, sum_over_workers

TEMPERATURE = 0.7  # as jobs.generate has it by default
MAX_NEW_TOKENS = 128
REPLIES_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What the model is asked about an image.

    Attributes:
        image: decoded.
        text: after which the model replies.
        number: of the prompt among all workers', from which its random numbers are drawn.
    """

    image: Image.Image
    text: str
    number: int


def measure_readable_share(
    trainer: Trainer, prompts: Sequence[Prompt], num_prompts: int, processor: Any
) -> float:
    """The share of the model's replies, over all workers, that hold a question and an answer.

    All workers call this together.

    Args:
        trainer: of this worker.
        prompts: this worker's, as many as any other's; those with numbers from `num_prompts` on
            fill a place and do not count.
        num_prompts: of all workers.
        processor: of the model.
    """
    replies = write_replies(trainer, prompts, processor)
    num_readable = sum(
        is_readable(reply)
        for prompt, reply in zip(prompts, replies, strict=True)
        if prompt.number < num_prompts
    )
    return float(sum_over_workers([float(num_readable)], trainer.device)) / num_prompts


def is_readable(reply: str) -> bool:
    """Whether a question and an answer can be told apart in a reply, neither of them empty."""
    pair = c3l.parse_reply(reply)
    return pair is not None and bool(pair[1])


@torch.no_grad()
def write_replies(trainer: Trainer, prompts: Sequence[Prompt], processor: Any) -> list[str]:
    """A sampled reply of the model to each prompt; all workers have as many, and call together."""
    learner, device = trainer.learner, trainer.device
    is_mixed = trainer.dtype == torch.bfloat16
    replies: list[str] = []
    learner.eval()
    if isinstance(learner, FSDPModule):
        learner.unshard()  # what belongs to no layer: the forward pass of the learner would do it
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_mixed):
            for first in range(0, len(prompts), REPLIES_AT_ONCE):
                chunk = prompts[first : first + REPLIES_AT_ONCE]
                replies += _write_chunk(learner, chunk, processor, device)
    finally:
        if isinstance(learner, FSDPModule):
            learner.reshard()
        learner.train()
    return replies


def _write_chunk(
    learner: nn.Module, prompts: Sequence[Prompt], processor: Any, device: torch.device
) -> list[str]:
    """The replies to prompts that are computed at once."""
    model: Any = bare_model(learner.model)
    tokenizer = processor.tokenizer
    inputs = processor(
        text=[prompt.text for prompt in prompts],
        images=[[prompt.image] for prompt in prompts],
        padding=True,
        padding_side="left",
        return_tensors="pt",
        add_special_tokens=not chat.has_bos(tokenizer, prompts[0].text),
    ).to(device)
    ends = model.generation_config.eos_token_id
    ids_BT = model.generate(
        **inputs,
        do_sample=False,  # the noise on the logits is what samples
        num_beams=1,
        logits_processor=[GumbelNoise([prompt.number for prompt in prompts])],
        max_new_tokens=MAX_NEW_TOKENS,
        eos_token_id=tokenizer.eos_token_id if ends is None else ends,
        pad_token_id=tokenizer.pad_token_id,
        synced_gpus=isinstance(learner, FSDPModule),
    )
    replies: list[str] = tokenizer.batch_decode(
        ids_BT[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return replies


class GumbelNoise(LogitsProcessor):
    """Noise on the logits, the largest of which is then a sample at TEMPERATURE.

    Args:
        numbers: of the rows; each draws its noise alone.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(number) for number in numbers]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        noise_BV = torch.stack(
            [
                -torch.empty(scores.shape[1]).exponential_(generator=generator).log()
                for generator in self._generators
            ]
        )
        return scores.float() / TEMPERATURE + noise_BV.to(scores.device)
