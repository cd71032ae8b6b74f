"""An answer's tokens, each with what the image added to it.

The records hold a number for each token and no token: the scorer's own tokenizer and chat template
say where tokens begin. It is loaded where it lies on this machine, and never downloaded.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from c3l_ray import chat
from c3l_ray.methods.c3l import system_message
from c3l_ray.processors import load_processor
from c3l_ray.schema import FOLLOW_UP, Turn
from c3l_ray.template_date import pin_date

STRONGEST_GAIN = 3.0
"""In nats: a token that the image makes 20 times likelier has the full tint, as have all above."""

_SCORED_AFTER = ("ok", "special_tokens", "altered_by_template", "empty", "too_long", "unscored")
"""Statuses of turns that later turns of their conversation were asked after."""


class TintedText(NamedTuple):
    """A piece of an answer, and ln p - ln r of its token; None for what is between tokens."""

    text: str
    gain: float | None

    @property
    def strength(self) -> float:
        """From -1, where the image speaks against the token, to 1."""
        return max(-1.0, min(1.0, (self.gain or 0.0) / STRONGEST_GAIN))


SplitAnswer = Callable[[Sequence[Turn], int], list[TintedText] | None]
"""The tinted pieces of the answer at a place of a record's turns; None where tokens do not fit."""


def load_splitter(report: dict[str, Any]) -> tuple[SplitAnswer | None, str]:
    """What splits answers as the scorer of a run did, or None and why there is no such thing.

    Args:
        report: run.json of the run.
    """
    config = report.get("config") or {}
    scorer = config.get("scorer") or {}
    name, revision = scorer.get("name"), scorer.get("revision")
    if not name:
        return None, "the run does not say which model scored it"
    path = _find_on_this_machine(name, revision)
    if path is None:
        return None, f"the tokenizer of {name} is not on this machine"
    if scorer.get("trust_remote_code"):
        return None, f"{name} has code of its own, which the report does not run"
    try:
        processor = load_processor(path, scorer.get("template_args") or ())
        pin_date(processor, config.get("prompt_date"))
    except Exception as error:  # whatever transformers raises for files that it cannot read
        return None, f"the tokenizer of {name} cannot be loaded: {type(error).__name__}"

    def split(turns: Sequence[Turn], place: int) -> list[TintedText] | None:
        try:
            return split_answer(processor, turns, place)
        except Exception:  # whatever a chat template raises
            return None

    return split, ""


def split_answer(processor: Any, turns: Sequence[Turn], place: int) -> list[TintedText] | None:
    """The answer of a turn in pieces, with the gain of each token.

    Args:
        processor: of the scoring model.
        turns: of the record.
        place: of the turn among them.

    Returns:
        The pieces, which make up the answer; None where its tokens are not as many as its gains.

    Raises:
        ValueError: the chat template changes the answer.
    """
    turn = turns[place]
    question, answer, gains = turn.get("question"), turn.get("answer"), turn.get("token_gains")
    if question is None or answer is None or not gains:
        return None
    history = [
        (earlier["question"] or "", earlier["answer"] or "")
        for earlier in turns[:place]
        if earlier["status"] in _SCORED_AFTER and earlier["question"] and earlier["answer"]
    ]
    text, (start, end) = chat.render_turn(
        processor,
        question,
        answer,
        with_image=True,
        history=history if turn["kind"] == FOLLOW_UP else (),
        system=system_message(turn["kind"], turn["instruction"]),
    )
    tokenizer = processor.tokenizer
    encoded = tokenizer(
        text,
        add_special_tokens=not chat.has_bos(tokenizer, text),
        return_offsets_mapping=True,
    )
    spans = [
        (left, right) for left, right in encoded["offset_mapping"] if left < end and right > start
    ]
    if len(spans) != len(gains):
        return None
    pieces: list[TintedText] = []
    reached = start
    for (left, right), gain in zip(spans, gains, strict=True):
        if left > reached:
            pieces.append(TintedText(text[reached:left], None))
        if min(right, end) > reached:  # tokens of one character: the first of them has it
            pieces.append(TintedText(text[max(left, reached) : min(right, end)], gain))
            reached = min(right, end)
    if reached < end:
        pieces.append(TintedText(text[reached:end], None))
    return pieces


def _find_on_this_machine(name: str, revision: str | None) -> str | None:
    """The folder of a model's files that are here already, or None."""
    if os.path.isdir(name):
        return name
    if "://" in name or name.startswith(("/", ".", "~")):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(name, "tokenizer_config.json", revision=revision)
    except HFValidationError:
        return None
    return os.path.dirname(file) if isinstance(file, str) else None
