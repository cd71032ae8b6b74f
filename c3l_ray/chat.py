"""The one way a turn becomes text and tokens, for generating, scoring and training.

A processor is a Hugging Face processor (`AutoProcessor`): its chat template is the model's own.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

History = Sequence[tuple[str, str]]  # the questions and answers before a turn, oldest first


def answer_prompt(processor: Any, question: str, *, image: bool, history: History = ()) -> str:
    """The text after which the model answers, with one image placeholder in it or none."""
    conversation = _asked(question, image=image, history=history)
    return _rendered(processor, conversation, add_generation_prompt=True)


def answered(
    processor: Any, question: str, answer: str, *, image: bool, history: History = ()
) -> tuple[str, tuple[int, int]]:
    """The text of a whole turn, and the characters [start, end) of the answer in it.

    Raises:
        ValueError: the chat template does not hold the answer as it was given.
    """
    conversation = [*_asked(question, image=image, history=history), _said("assistant", answer)]
    text = _rendered(processor, conversation, add_generation_prompt=False)
    # The template's own words after the answer may hold a short answer too: look where it begins.
    prompt = answer_prompt(processor, question, image=image, history=history)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, text)))  # noqa: B905
    start = text.find(answer, shared)
    if start < 0:
        raise ValueError(f"the model's chat template changes the answer {answer!r}")
    return text, (start, start + len(answer))


def begun_prompt(processor: Any, question: str, begun: str, *, image: bool) -> str:
    """The text after which the model goes on with its answer, where it has begun one.

    Raises:
        ValueError: the chat template does not hold the beginning as it was given.
    """
    if not begun:
        return answer_prompt(processor, question, image=image)
    words = begun.rstrip()  # templates may trim a message; the blanks before what follows count
    text, (_, end) = answered(processor, question, words, image=image)
    return text[:end] + begun[len(words) :]


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a rendered text, with one begin-of-sequence whoever writes it."""
    ids: list[int] = tokenizer(text, add_special_tokens=not begins(tokenizer, text))["input_ids"]
    return ids


def spanned_ids(tokenizer: Any, text: str, span: tuple[int, int]) -> tuple[list[int], int, int]:
    """A rendered text's token ids, and the places [start, end) of the answer's tokens among them.

    A token belongs to the answer when it holds one of its characters, so a word's token that begins
    with the space before it counts. What follows (end of sequence, a newline of the template) does
    not. An answer without tokens has the places (0, 0).
    """
    encoded = tokenizer(
        text,
        add_special_tokens=not begins(tokenizer, text),
        return_offsets_mapping=True,
    )
    first, last = span
    inside = [
        position
        for position, (left, right) in enumerate(encoded["offset_mapping"])
        if left < last and right > first
    ]
    ids: list[int] = encoded["input_ids"]
    return (ids, inside[0], inside[-1] + 1) if inside else (ids, 0, 0)


def special_tokens(processor: Any) -> set[str]:
    """What the tokenizer reads as more than text; a turn that holds one cannot be asked.

    Families differ in which of their markers they name as special (Gemma 3 leaves out those of a
    turn, SmolVLM those of an image's parts), so the tokenizer's own flags count too.
    """
    tokenizer = processor.tokenizer
    image = getattr(processor, "image_token", None)
    flagged = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return {*tokenizer.all_special_tokens, *flagged, *([image] if image else [])}


def _rendered(
    processor: Any, messages: list[dict[str, Any]], *, add_generation_prompt: bool
) -> str:
    text: str = processor.apply_chat_template(
        messages,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        # Given none, SmolVLM's processor misplaces its own, and warns of it every time.
        processor_kwargs={"padding": False},
    )
    return text


def _asked(question: str, *, image: bool, history: History) -> list[dict[str, Any]]:
    """The messages up to this question; the image comes with the first of them."""
    messages = []
    for earlier_question, earlier_answer in history:
        messages += [_said("user", earlier_question), _said("assistant", earlier_answer)]
    messages.append(_said("user", question))
    if image:
        messages[0]["content"].insert(0, {"type": "image"})
    return messages


def _said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def begins(tokenizer: Any, text: str) -> bool:
    """Whether the template wrote the begin-of-sequence itself, so that the tokenizer must not."""
    begin = tokenizer.bos_token
    return begin is not None and text.startswith(begin)
