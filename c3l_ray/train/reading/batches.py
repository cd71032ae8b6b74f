"""Examples as tensors: what the processor makes of a micro-batch, and the masks beside it.

Shapes: B images of the micro-batch, R their texts, T tokens of a text, S SKIP_REASONS.
"""

import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from c3l_ray import chat
from c3l_ray.inference.model_inputs import collate_rows
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
    "is_empty",
)


TRIAL_IMAGES = (("red", (60, 60)), ("green", (180, 60)), ("blue", (60, 200)))


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
        processor: of the model; it preprocesses an image once where it is that of `encode`.
        skipped: why the records are not learnt from in whose places other images stand.
    """
    chat_texts = [chat_text for example in examples for chat_text in example.texts]
    images = [example.image for example in examples for _ in example.texts]
    texts = [chat_text.text for chat_text in chat_texts]
    process = _process_rows if _rows_make_batches(processor) else _process_batch
    inputs = process(processor, texts, images)
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
        **inputs,
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


def _process_batch(
    processor: Any, texts: Sequence[str], images: Sequence[Image.Image]
) -> MicroBatch:
    """What the processor makes of texts, each about an image, padded on the right."""
    inputs = processor(
        text=list(texts),
        images=[[image] for image in images],
        padding=True,
        padding_side="right",
        return_tensors="pt",
        add_special_tokens=not chat.has_bos(processor.tokenizer, texts[0]),
    )
    return {name: value for name, value in inputs.items() if isinstance(value, Tensor)}


def _process_rows(
    processor: Any, texts: Sequence[str], images: Sequence[Image.Image]
) -> MicroBatch:
    """The same text by text, so that the texts of an image share its preprocessing."""
    rows = zip(texts, images, strict=True)
    inputs = collate_rows(_process_batch(processor, [text], [image]) for text, image in rows)
    is_padding_RT = inputs["attention_mask"] == 0
    inputs["input_ids"][is_padding_RT] = processor.tokenizer.pad_token_id or 0
    return inputs


@cache
def _rows_make_batches(processor: Any) -> bool:
    """Whether the two above are equal, tried on images of several shapes.

    MiniCPM-V's processor lays the patches of all images end to end in one row.
    """
    texts = [
        chat.answer_prompt(processor, "What is it?" * place, with_image=True) for place in (1, 3, 2)
    ]
    images = [Image.new("RGB", size, color) for color, size in TRIAL_IMAGES]
    try:
        rows, batch = (
            process(processor, texts, images) for process in (_process_rows, _process_batch)
        )
    except Exception:  # whatever a processor or the shapes of its rows raise
        return False
    return rows.keys() == batch.keys() and all(
        torch.equal(rows[name], batch[name]) for name in batch
    )


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
