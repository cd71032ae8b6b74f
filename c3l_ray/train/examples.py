"""What is learnt from one record: sequences of text beside its image, and the part of each word.

For c3l, the positive and its negatives are written as replies to the positive's instruction, in the
format that it asks for: the generator is what is tuned, and turns under one and the same prompt
differ in nothing but what they say. For cgvlm, the caption is the reply.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image

from c3l_ray import chat
from c3l_ray.errors import ImageUnusable
from c3l_ray.images import decode
from c3l_ray.methods import c3l, cgvlm
from c3l_ray.methods.i2c import Floats
from c3l_ray.methods.labels import Labels, label
from c3l_ray.train.config import TrainConfig

Span = tuple[int, int]  # characters [start, end) of a text
Standings = Mapping[str, Floats]


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """A prompt and a reply to it, as text.

    Attributes:
        text: rendered by the chat template, up to the token that ends the reply.
        turn: the reply.
        target: what is learnt by its likelihood: the reply and its end, or None.
        anchor: what the turns are compared with, or None.
        unlearnt: parts of the target that are not learnt.
    """

    text: str
    turn: Span
    target: Span | None = None
    anchor: Span | None = None
    unlearnt: tuple[Span, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Example:
    """An image and its sequences: the positive first, then the negatives, then a description."""

    image: Image.Image
    sequences: tuple[Sequence, ...]
    num_turns: int


def labels(record: Mapping[str, Any], config: TrainConfig, standings: Standings) -> Labels | None:
    """The pseudo-labels of a record that c3l can learn from, or None."""
    found = label(
        record["turns"],
        by=config.positive_by,
        guard=config.signed_guard,
        margin=config.margin,
        standings=standings if config.within == "kind" else None,
        key=record["image_id"],
    )
    if found is None or not (found.negatives or config.contrast.in_batch_negatives):
        return None
    needs_description = config.contrast.anchor == "description"
    if needs_description and describe(record, found.positive) is None:
        return None
    return found


def usable(record: Mapping[str, Any], config: TrainConfig, standings: Standings) -> bool:
    """Whether a record can be learnt from, seen without its image."""
    if record["status"] != "ok":
        return False
    if config.objective == "cgvlm":
        return cgvlm.caption(record) is not None
    return labels(record, config, standings) is not None


def describe(record: Mapping[str, Any], positive: int) -> str | None:
    """The image's caption, else the answer of its first detail turn that is not the positive."""
    others = [turn for place, turn in enumerate(record["turns"]) if place != positive]
    found = cgvlm.caption({"caption": record["caption"], "turns": others})
    return found[1] if found else None


def example(
    record: Mapping[str, Any], processor: Any, config: TrainConfig, standings: Standings
) -> Example | None:
    """What is learnt from a usable record, or None where the model cannot read it as it is.

    Args:
        record: a row of the schema RECORDS, with its image.
        processor: of the model.
        config: of the run.
        standings: sorted scores by kind, for `--within kind`.
    """
    try:
        image = decode(record["image"], config.max_pixels)
    except ImageUnusable:
        return None
    try:
        if config.objective == "cgvlm":
            instruction, caption = cgvlm.caption(record) or ("", "")
            replied = replies(processor, instruction)
            return Example(image=image, sequences=(replied(caption, learnt=True),), num_turns=1)
        return _contrast(record, image, processor, config, standings)
    except ValueError:  # the chat template or the tokenizer reads a text as something else
        return None


def _contrast(
    record: Mapping[str, Any],
    image: Image.Image,
    processor: Any,
    config: TrainConfig,
    standings: Standings,
) -> Example | None:
    found = labels(record, config, standings)
    if found is None:
        return None
    positive = record["turns"][found.positive]
    # A turn made elsewhere has none: it is learnt as a reply to one of ours.
    instruction = positive["instruction"] or c3l.requests(record["image_id"], 1)[0].instruction
    replied = replies(processor, instruction)

    def written(place: int) -> str:
        turn = record["turns"][place]
        return c3l.written(turn["question"], turn["answer"], instruction)

    by_instruction = config.contrast.anchor == "instruction"
    best = replied(written(found.positive), learnt=True, anchored=by_instruction)
    if config.contrast.token_weights == "vig":
        best = _without_ungrounded(best, positive, processor, config.contrast.token_threshold)
    sequences = [best, *(replied(written(place)) for place in found.negatives)]
    if not by_instruction:
        description = replied(describe(record, found.positive) or "")
        sequences.append(
            Sequence(text=description.text, turn=description.turn, anchor=description.turn)
        )
    return Example(image=image, sequences=tuple(sequences), num_turns=1 + len(found.negatives))


def replies(processor: Any, instruction: str) -> Callable[..., Sequence]:
    """A function from replies to an instruction about an image to their sequences.

    Raises:
        ValueError: out of it, where the tokenizer or the chat template changes one of the texts.
    """
    special = _special_tokens(processor)

    def replied(reply: str, *, learnt: bool = False, anchored: bool = False) -> Sequence:
        if any(token in text for token in special for text in (instruction, reply)):
            raise ValueError("a text holds what the tokenizer reads as more than text")
        text, (start, end) = chat.answered(processor, instruction, reply, image=True)
        # Rendered texts end as their template likes; a generator must learn to end a reply.
        after = text[end:]
        ends = [after.index(token) + len(token) for token in special if token in after]
        ending = after[: min(ends)] if ends else processor.tokenizer.eos_token
        text = text[:end] + ending
        asked = text.find(instruction)
        if anchored and not 0 <= asked < start:
            raise ValueError("the chat template changes the instruction")
        return Sequence(
            text=text,
            turn=(start, end),
            target=(start, len(text)) if learnt else None,
            anchor=(asked, asked + len(instruction)) if anchored else None,
        )

    return replied


_special_tokens = cache(chat.special_tokens)  # some tokenizers have thousands


def _without_ungrounded(
    best: Sequence, positive: Mapping[str, Any], processor: Any, threshold: float
) -> Sequence:
    """The sequence with the answer's tokens unlearnt that the image does not make likelier.

    The gains are of the answer's tokens after its question; a reply's answer that is split into
    another number of tokens is learnt whole.
    """
    gains = positive["token_gain"]
    start = best.text.rfind(positive["answer"], *best.turn)
    if not gains or start < 0:
        return best
    end = start + len(positive["answer"])
    tokens = [span for span in offsets(processor, best.text) if span[0] < end and span[1] > start]
    if len(tokens) != len(gains):
        return best
    unlearnt = tuple(
        (max(left, start), right)
        for (left, right), gain in zip(tokens, gains, strict=True)
        if gain is None or gain <= threshold
    )
    return Sequence(
        text=best.text, turn=best.turn, target=best.target, anchor=best.anchor, unlearnt=unlearnt
    )


def offsets(processor: Any, text: str) -> list[Span]:
    """The characters of each of a text's tokens, before the image's placeholder grows."""
    encoded = processor.tokenizer(
        text,
        add_special_tokens=not chat.begins(processor.tokenizer, text),
        return_offsets_mapping=True,
    )
    return [(left, right) for left, right in encoded["offset_mapping"]]
