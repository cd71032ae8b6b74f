"""How a turn becomes text and tokens, the same for generation, scoring and training.

A processor is a Hugging Face processor, as `processors.load_processor` makes it; its chat template
is the model's own.
"""

from collections.abc import Sequence
from functools import cache
from itertools import takewhile
from typing import Any

from c3l_ray.methods.thoughts import drop_closed_thoughts, ends_in_thought
from c3l_ray.template_date import date_arguments

History = Sequence[tuple[str, str]]  # the questions and answers before a turn, oldest first

_MARK = "\ue000\ue001"  # of private use: it stands where an answer would, and in no template
_CHARACTERS_SHOWN = 40  # of what two prompts share before they differ


def answer_prompt(
    processor: Any, question: str, *, with_image: bool, history: History = (), system: str = ""
) -> str:
    """The text after which the model answers, with one image placeholder in it or none.

    Args:
        processor: of the model.
        question: of the turn.
        with_image: whether the image comes with the first question.
        history: the turns before it.
        system: the system message; empty for none, or for the template's own. Where the template
            takes none, it stands before the first question (`takes_system_message`).
    """
    messages = _question_messages(processor, question, with_image, history, system)
    return _apply_template(processor, messages, add_generation_prompt=True)


def render_turn(
    processor: Any,
    question: str,
    answer: str,
    *,
    with_image: bool,
    history: History = (),
    system: str = "",
) -> tuple[str, tuple[int, int]]:
    """The text of a whole turn, and the characters [start, end) of the answer in it.

    The answer follows what the model answers after: where a template writes an empty thought into
    the prompt for an answer and leaves it out before the answer itself, it is written there too.
    So are other blanks, which LLaVA-OneVision's template writes before an answer.

    Args:
        processor: of the model.
        question: of the turn.
        answer: to it.
        with_image: whether the image comes with the first question.
        history: the turns before it.
        system: the system message, as `answer_prompt` takes it.

    Raises:
        ValueError: the chat template changes the answer.
    """
    messages = _question_messages(processor, question, with_image, history, system)
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
    followed = text[:start]
    if _adds_closed_thought(prompt, followed) or _differs_in_blanks(prompt, followed):
        text, start = prompt + text[start:], len(prompt)
    return text, (start, start + len(answer))


def cut_after_reply(processor: Any, text: str, reply_end: int, special_tokens: set[str]) -> str:
    """A rendered text up to the token that ends its reply, as the model writes it.

    It is the first special token after the reply, with what the template writes before it; where
    there is none, the end-of-sequence token takes the place of what follows.

    Args:
        processor: of the model.
        text: of a turn, as `render_turn` makes it.
        reply_end: where the reply ends in it.
        special_tokens: of the processor, as the function of this name finds them.

    Raises:
        ValueError: there is neither.
    """
    after = text[reply_end:]
    ends = [after.index(token) + len(token) for token in special_tokens if token in after]
    if ends:
        return text[: reply_end + min(ends)]
    eos_token: str | None = processor.tokenizer.eos_token
    if eos_token is None:
        raise ValueError("the tokenizer has no token that ends a reply")
    return text[:reply_end] + eos_token


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


def opens_thought(processor: Any) -> bool:
    """Whether the model is asked for an answer inside a thought, which its reply has to close."""
    prompt = answer_prompt(processor, "What?", with_image=True)
    return ends_in_thought(prompt)


@cache  # it is asked for every text under a system message
def takes_system_message(processor: Any) -> bool:
    """Whether the chat template writes a system message as one.

    Templates that do not know the role refuse it, leave it out, or take it for the assistant's.
    """

    def text_before(role: str) -> str | None:
        """The text before a first message of a role, or None where it is not written."""
        messages = [_message(role, _MARK), _message("user", "What?")]
        try:
            text = _apply_template(processor, messages, add_generation_prompt=True)
        except Exception:  # templates raise errors of their own for what they do not know
            return None
        # Made for a message that is text alone, some write its list of parts as Python shows it;
        # there the mark is escaped.
        before, mark, _ = text.partition(_MARK)
        return before if mark else None

    before = text_before("system")
    return before is not None and before != text_before("assistant")


OTHER_PROMPT = "of another prompt"
"""The end of a note on what `compare_prompts` finds; the summary then counts the turns."""


def compare_prompts(
    processor: Any, question: str, answer: str, *, with_image: bool
) -> tuple[str, str] | None:
    """What the model answers after and what the turn's answer follows, or None where they agree.

    They agree token by token; a blank of the template's own before the answer is no difference.
    Of both, the end is returned from a little before where they differ.
    """
    tokenizer = processor.tokenizer
    prompt = answer_prompt(processor, question, with_image=with_image)
    asked_ids = tokenize(tokenizer, prompt)
    text, span = render_turn(processor, question, answer, with_image=with_image)
    turn_ids, answer_start, _ = tokenize_with_span(tokenizer, text, span)
    followed_ids = turn_ids[:answer_start]
    num_shared = count_shared(asked_ids, followed_ids)
    extra: str = tokenizer.decode(followed_ids[num_shared:])
    # A blank that a tokenizer has no token for is decoded as the name of the unknown token.
    is_blank = text.startswith(prompt) and not text[len(prompt) : span[0]].strip()
    if num_shared == len(asked_ids) and (is_blank or not extra.strip()):
        return None
    shared = tokenizer.decode(followed_ids[:num_shared])[-_CHARACTERS_SHOWN:]
    return shared + tokenizer.decode(asked_ids[num_shared:]), shared + extra


def count_shared(first_ids: Sequence[int], second_ids: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    pairs = zip(first_ids, second_ids, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


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
        **date_arguments(processor),
    )
    return text


def _adds_closed_thought(prompt: str, followed: str) -> bool:
    """Whether a prompt is what the answer follows, with a closed thought and nothing else added."""
    if followed.startswith(prompt):
        return False
    without_thought = drop_closed_thoughts(prompt)
    return without_thought != prompt and without_thought == drop_closed_thoughts(followed)


def _differs_in_blanks(prompt: str, followed: str) -> bool:
    """Whether what an answer follows is its prompt but for blanks inside the prompt."""
    return not followed.startswith(prompt) and followed.split() == prompt.split()


def _question_messages(
    processor: Any, question: str, with_image: bool, history: History, system: str
) -> list[dict[str, Any]]:
    """The messages up to this question; the image comes with the first of them."""
    messages = []
    for earlier_question, earlier_answer in history:
        messages += [_message("user", earlier_question), _message("assistant", earlier_answer)]
    messages.append(_message("user", question))
    first = messages[0]["content"]
    has_role = bool(system) and takes_system_message(processor)
    if system and not has_role:
        first[0]["text"] = f"{system}\n\n{first[0]['text']}"
    if with_image:
        first.insert(0, {"type": "image"})
    return [_message("system", system), *messages] if has_role else messages


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}
