"""How a turn becomes text and tokens, the same for generation, scoring and training.

A processor is a Hugging Face processor (`AutoProcessor`); its chat template is the model's own.
"""

from collections.abc import Sequence
from typing import Any

History = Sequence[tuple[str, str]]  # the questions and answers before a turn, oldest first

_MARK = "\ue000\ue001"  # of private use: it stands where an answer would, and in no template


def answer_prompt(processor: Any, question: str, *, with_image: bool, history: History = ()) -> str:
    """The text after which the model answers, with one image placeholder in it or none."""
    messages = _question_messages(question, with_image=with_image, history=history)
    return _apply_template(processor, messages, add_generation_prompt=True)


def render_turn(
    processor: Any, question: str, answer: str, *, with_image: bool, history: History = ()
) -> tuple[str, tuple[int, int]]:
    """The text of a whole turn, and the characters [start, end) of the answer in it.

    The answer follows what the model answers after, also where a template writes other blanks
    before an answer than where it asks for one, as LLaVA-OneVision's does.

    Raises:
        ValueError: the chat template changes the answer.
    """
    messages = _question_messages(question, with_image=with_image, history=history)
    text, text_with_mark = (
        _apply_template(
            processor, [*messages, _message("assistant", reply)], add_generation_prompt=False
        )
        for reply in (answer, _MARK)
    )
    # The template's own words, before the answer or after it, may hold a short answer too.
    start = text_with_mark.rfind(_MARK)
    if start < 0 or not text.startswith(answer, start):
        raise ValueError(f"the model's chat template changes the answer {answer!r}")
    prompt = _apply_template(processor, messages, add_generation_prompt=True)
    if _differs_in_blanks(prompt, text[:start]):
        text, start = prompt + text[start:], len(prompt)
    return text, (start, start + len(answer))


def continuation_prompt(
    processor: Any, question: str, reply_start: str, *, with_image: bool
) -> str:
    """The text after which the model continues a reply that begins with `reply_start`.

    Raises:
        ValueError: the chat template changes the start of the reply.
    """
    if not reply_start:
        return answer_prompt(processor, question, with_image=with_image)
    # Templates may trim a message; the blanks before what follows count.
    trimmed = reply_start.rstrip()
    text, (_, end) = render_turn(processor, question, trimmed, with_image=with_image)
    return text[:end] + reply_start[len(trimmed) :]


def tokenize(tokenizer: Any, text: str) -> list[int]:
    """The token ids of a rendered text, with exactly one begin-of-sequence token if it has any."""
    encoded = tokenizer(text, add_special_tokens=not has_bos(tokenizer, text))
    ids: list[int] = encoded["input_ids"]
    return ids


def tokenize_with_span(
    tokenizer: Any, text: str, span: tuple[int, int]
) -> tuple[list[int], int, int]:
    """A rendered text's token ids, and the places [start, end) of the tokens of a span of it.

    A token belongs to the span when it holds one of its characters, so a word's token that begins
    with the space before it counts. What follows (end of sequence, a newline of the template) does
    not. A span without tokens has the places (0, 0).

    Args:
        tokenizer: of the model; it must be able to return offsets.
        text: the rendered text.
        span: the characters [start, end), of the answer as a rule.
    """
    encoded = tokenizer(
        text,
        add_special_tokens=not has_bos(tokenizer, text),
        return_offsets_mapping=True,
    )
    first, last = span
    places = [
        place
        for place, (left, right) in enumerate(encoded["offset_mapping"])
        if left < last and right > first
    ]
    ids: list[int] = encoded["input_ids"]
    return (ids, places[0], places[-1] + 1) if places else (ids, 0, 0)


def has_bos(tokenizer: Any, text: str) -> bool:
    """Whether the template wrote the begin-of-sequence token, so that the tokenizer must not."""
    bos = tokenizer.bos_token
    return bos is not None and text.startswith(bos)


def special_tokens(processor: Any) -> set[str]:
    """What the tokenizer reads as more than text; a turn that holds one cannot be asked.

    Families differ in which of their markers they name as special (Gemma 3 leaves out those of a
    turn, SmolVLM those of an image's parts), so the tokenizer's own flags count too.
    """
    tokenizer = processor.tokenizer
    image_token = getattr(processor, "image_token", None)
    flagged = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return {*tokenizer.all_special_tokens, *flagged, *([image_token] if image_token else [])}


def _apply_template(
    processor: Any, messages: list[dict[str, Any]], *, add_generation_prompt: bool
) -> str:
    text: str = processor.apply_chat_template(
        messages,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        # Without this SmolVLM's processor misplaces its own default and warns of it every time.
        processor_kwargs={"padding": False},
    )
    return text


def _differs_in_blanks(prompt: str, followed: str) -> bool:
    """Whether what an answer follows is its prompt but for blanks inside the prompt."""
    return not followed.startswith(prompt) and followed.split() == prompt.split()


def _question_messages(
    question: str, *, with_image: bool, history: History
) -> list[dict[str, Any]]:
    """The messages up to this question; the image comes with the first of them."""
    messages = []
    for earlier_question, earlier_answer in history:
        messages += [_message("user", earlier_question), _message("assistant", earlier_answer)]
    messages.append(_message("user", question))
    if with_image:
        messages[0]["content"].insert(0, {"type": "image"})
    return messages


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}
