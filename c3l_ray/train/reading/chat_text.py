"""Sequences of text beside an image, as the model's chat template renders them, and their parts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image

from c3l_ray import chat

Span = tuple[int, int]  # characters [start, end) of a text


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


def offsets(processor: Any, text: str) -> list[Span]:
    """The characters of each of a text's tokens, before the image's placeholder grows."""
    encoded = processor.tokenizer(
        text,
        add_special_tokens=not chat.begins(processor.tokenizer, text),
        return_offsets_mapping=True,
    )
    return [(left, right) for left, right in encoded["offset_mapping"]]
