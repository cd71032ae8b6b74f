"""Examples as tensors: what the processor makes of a micro-batch, and the masks beside it.

Shapes: B images of the micro-batch, R their texts, T tokens of a text, S SKIP_REASONS.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from c3l_ray import chat
from c3l_ray.train.reading.chat_text import SKIP_REASONS, Example, SkipReason, Span, token_spans

MicroBatch = dict[str, Tensor]

# What the model does not take: everything else in a micro-batch is an input of its forward.
MASK_NAMES = (
    "anchor_RT",
    "reply_RT",
    "target_RT",
    "owner_R",
    "is_turn_R",
    "positive_B",
    "weight_B",
    "skipped_S",
)


def make_micro_batch(
    examples: Sequence[Example],
    weights: Sequence[float],
    processor: Any,
    skipped: Sequence[SkipReason] = (),
) -> MicroBatch:
    """A micro-batch's tensors: the processor's own, and

    anchor_RT: the tokens whose mean is an image's anchor;
    reply_RT: the tokens of each text's reply;
    target_RT: the weight of each token's likelihood, 0 where it is not learnt;
    owner_R: which image of the micro-batch a text belongs to;
    is_turn_R: False for a description;
    positive_B: the first text of each image;
    weight_B: 1, or 0 for an image that only fills its place;
    skipped_S: the number of records of the micro-batch that are not learnt from, by reason.

    Args:
        examples: of the micro-batch.
        weights: of each.
        processor: of the model.
        skipped: why the records are not learnt from in whose places other images stand.
    """
    chat_texts = [chat_text for example in examples for chat_text in example.texts]
    texts = [chat_text.text for chat_text in chat_texts]
    inputs = processor(
        text=texts,
        images=[[example.image] for example in examples for _ in example.texts],
        padding=True,
        padding_side="right",
        return_tensors="pt",
        add_special_tokens=not chat.has_bos(processor.tokenizer, texts[0]),
    )
    shape = inputs["input_ids"].shape
    anchor_RT, reply_RT = (torch.zeros(shape, dtype=torch.bool) for _ in range(2))
    target_RT = torch.zeros(shape)
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    for row, (chat_text, length) in enumerate(zip(chat_texts, lengths, strict=True)):
        spans = token_spans(processor, chat_text.text)
        # The image's placeholder grows before all that is marked here: count from the end.
        first = length - len(spans)
        reply_RT[row, _token_positions(spans, chat_text.reply, first)] = True
        if chat_text.anchor:
            anchor_RT[row, _token_positions(spans, chat_text.anchor, first)] = True
        for target in chat_text.targets:
            target_RT[row, _token_positions(spans, target, first)] = 1.0
        for span in chat_text.ignored:
            target_RT[row, _token_positions(spans, span, first)] = 0.0
    num_texts_B = torch.tensor([len(example.texts) for example in examples])
    return {
        **{name: value for name, value in inputs.items() if isinstance(value, Tensor)},
        "anchor_RT": anchor_RT,
        "reply_RT": reply_RT,
        "target_RT": target_RT,
        "owner_R": torch.arange(len(examples)).repeat_interleave(num_texts_B),
        "is_turn_R": torch.tensor(
            [i < example.num_turns for example in examples for i in range(len(example.texts))]
        ),
        "positive_B": num_texts_B.cumsum(0) - num_texts_B,
        "weight_B": torch.tensor(list(weights), dtype=torch.float32),
        "skipped_S": torch.tensor([skipped.count(reason) for reason in SKIP_REASONS]),
    }


def model_inputs(micro_batch: Mapping[str, Tensor]) -> MicroBatch:
    """What the model's forward is called with."""
    return {name: value for name, value in micro_batch.items() if name not in MASK_NAMES}


def to_bytes(micro_batch: MicroBatch) -> bytes:
    buffer = io.BytesIO()
    torch.save(micro_batch, buffer)
    return buffer.getvalue()


def from_bytes(content: bytes) -> MicroBatch:
    micro_batch: MicroBatch = torch.load(io.BytesIO(content), weights_only=True)
    return micro_batch


def to_device(micro_batch: MicroBatch, device: torch.device) -> MicroBatch:
    return {name: value.to(device, non_blocking=True) for name, value in micro_batch.items()}


def _token_positions(spans: list[Span], marked: Span, first: int) -> list[int]:
    """Positions of the tokens that hold a character of a span of the text.

    Args:
        spans: of all tokens.
        marked: the span.
        first: the position of the first token.
    """
    return [
        first + number
        for number, (left, right) in enumerate(spans)
        if left < marked[1] and right > marked[0]
    ]
