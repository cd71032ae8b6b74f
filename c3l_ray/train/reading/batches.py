"""Examples as tensors: what the processor makes of a share of a batch, and the masks beside it.

Shapes: B images of the share, R their sequences, T tokens of a sequence.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from c3l_ray import chat
from c3l_ray.train.reading.chat_text import Example, Span, offsets

Batch = dict[str, Tensor]

# What the model does not take: everything else in a batch is an input of its forward.
OURS = ("anchor_RT", "turn_RT", "target_RT", "owner_R", "is_turn_R", "positive_B", "weight_B")


def batch(examples: Sequence[Example], weights: Sequence[float], processor: Any) -> Batch:
    """A share's tensors: the processor's own, and

    anchor_RT: the tokens whose mean is an image's anchor;
    turn_RT: the tokens of each sequence's reply;
    target_RT: the weight of each token's likelihood, 0 where it is not learnt;
    owner_R: which image of the share a sequence belongs to;
    is_turn_R: False for a description;
    positive_B: the first sequence of each image;
    weight_B: 1, or 0 for an image that only fills its place.

    Args:
        examples: of the share.
        weights: of each.
        processor: of the model.
    """
    sequences = [sequence for example in examples for sequence in example.sequences]
    texts = [sequence.text for sequence in sequences]
    inputs = processor(
        text=texts,
        images=[[example.image] for example in examples for _ in example.sequences],
        padding=True,
        padding_side="right",
        return_tensors="pt",
        add_special_tokens=not chat.begins(processor.tokenizer, texts[0]),
    )
    shape = inputs["input_ids"].shape
    anchor_RT, turn_RT = (torch.zeros(shape, dtype=torch.bool) for _ in range(2))
    target_RT = torch.zeros(shape)
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    for row, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
        spans = offsets(processor, sequence.text)
        # The image's placeholder grows before all that is marked here: count from the end.
        first = length - len(spans)
        turn_RT[row, _places(spans, sequence.turn, first)] = True
        if sequence.anchor:
            anchor_RT[row, _places(spans, sequence.anchor, first)] = True
        if sequence.target:
            target_RT[row, _places(spans, sequence.target, first)] = 1.0
        for part in sequence.unlearnt:
            target_RT[row, _places(spans, part, first)] = 0.0
    counts = torch.tensor([len(example.sequences) for example in examples])
    return {
        **{name: value for name, value in inputs.items() if isinstance(value, Tensor)},
        "anchor_RT": anchor_RT,
        "turn_RT": turn_RT,
        "target_RT": target_RT,
        "owner_R": torch.arange(len(examples)).repeat_interleave(counts),
        "is_turn_R": torch.tensor(
            [i < example.num_turns for example in examples for i in range(len(example.sequences))]
        ),
        "positive_B": counts.cumsum(0) - counts,
        "weight_B": torch.tensor(list(weights), dtype=torch.float32),
    }


def inputs_of(batch: Mapping[str, Tensor]) -> Batch:
    """What the model's forward is called with."""
    return {name: value for name, value in batch.items() if name not in OURS}


def to_bytes(batch: Batch) -> bytes:
    buffer = io.BytesIO()
    torch.save(batch, buffer)
    return buffer.getvalue()


def from_bytes(content: bytes) -> Batch:
    loaded: Batch = torch.load(io.BytesIO(content), weights_only=True)
    return loaded


def to_device(batch: Batch, device: torch.device) -> Batch:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def _places(spans: list[Span], part: Span, first: int) -> list[int]:
    """Positions of the tokens that hold a character of a part of the text."""
    return [
        first + place
        for place, (left, right) in enumerate(spans)
        if left < part[1] and right > part[0]
    ]
