"""Texts beside an image, as the model's chat template renders them, and what is marked in them."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from PIL import Image

from c3l_ray import chat

Span = tuple[int, int]  # characters [start, end) of a text

SkipReason = Literal["unusable_image", "altered_text", "too_long"]
"""Why a record is not learnt from: its image, its text in the model's tokens, or their number."""

SKIP_REASONS: tuple[SkipReason, ...] = get_args(SkipReason)


@dataclass(frozen=True, kw_only=True)
class ChatText:
    """A prompt and a reply to it, as text.

    Attributes:
        text: rendered by the chat template, up to the token that ends the reply.
        reply: where it stands.
        targets: what is learnt by its likelihood: replies, each with its end.
        anchor: what the turns are compared with, or None.
        ignored: spans of the targets that are not learnt.
    """

    text: str
    reply: Span
    targets: tuple[Span, ...] = ()
    anchor: Span | None = None
    ignored: tuple[Span, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Example:
    """An image and its texts: the positive first, then the negatives, then a description.

    Attributes:
        image: decoded.
        texts: about it.
        num_turns: how many of the texts are turns; a description is none.
    """

    image: Image.Image
    texts: tuple[ChatText, ...]
    num_turns: int


def reply_text(
    processor: Any,
    instruction: str,
    reply: str,
    *,
    system: str = "",
    target: bool = False,
    anchor: bool = False,
) -> ChatText:
    """A reply to an instruction about an image.

    Args:
        processor: of the model.
        instruction: beside the image.
        reply: to it.
        system: the system message, or nothing.
        target: whether the reply is learnt by its likelihood.
        anchor: whether turns are compared with the instruction.

    Raises:
        ValueError: the tokenizer or the chat template changes one of the texts.
    """
    special_tokens = _special_tokens(processor)
    if any(token in text for token in special_tokens for text in (system, instruction, reply)):
        raise ValueError("a text holds what the tokenizer reads as more than text")
    text, (start, end) = chat.render_turn(
        processor, instruction, reply, with_image=True, system=system
    )
    # Rendered texts end as their template likes; a generator must learn to end a reply.
    text = chat.cut_after_reply(processor, text, end, special_tokens)
    instruction_start = text.rfind(instruction, 0, start)
    if anchor and not 0 <= instruction_start < start:
        raise ValueError("the chat template changes the instruction")
    return ChatText(
        text=text,
        reply=(start, end),
        targets=((start, len(text)),) if target else (),
        anchor=(instruction_start, instruction_start + len(instruction)) if anchor else None,
    )


def token_spans(processor: Any, text: str) -> list[Span]:
    """The characters of each of a text's tokens, before the image's placeholder grows."""
    encoded = processor.tokenizer(
        text,
        add_special_tokens=not chat.has_bos(processor.tokenizer, text),
        return_offsets_mapping=True,
    )
    return [(left, right) for left, right in encoded["offset_mapping"]]


_special_tokens = cache(chat.special_tokens)  # some tokenizers have thousands
