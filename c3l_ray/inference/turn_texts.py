"""Turns to score as texts and tokens: each is rendered and tokenised once, whoever asks for it.

Whether a turn can be scored is found out for a whole unit, before any of its turns is scored, and
each step of scoring needs the same texts again.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from c3l_ray import chat
from c3l_ray.methods import c3l

TEXTS_KEPT = 2**14
"""Those of a unit, as a rule: 256 images with 20 answers, three texts each, of about 3 KB."""

Side = Literal["image", "text", "posed"]
"""A turn beside its image, without it, or as the reply that its instruction asks for."""


@dataclass(frozen=True, kw_only=True)
class TurnToScore:
    """One turn to score, with its image and what was said before it.

    Attributes:
        history: the turns before it.
        system: the system message; empty for none, or for the chat template's own.
        baseline_image: takes the image's place on the side without it; None leaves the image out.
        instruction: that asked for the turn; empty for a turn that was made elsewhere.
    """

    image: Image.Image
    question: str
    answer: str
    history: chat.History = ()
    system: str = ""
    baseline_image: Image.Image | None = None
    instruction: str = ""


@dataclass(frozen=True, kw_only=True)
class TokenizedTurn:
    """A turn as token ids, and the places [start, end) of its answer among them."""

    ids: list[int]
    answer_start: int
    answer_end: int

    @property
    def answer_ids(self) -> list[int]:
        return self.ids[self.answer_start : self.answer_end]


@dataclass(frozen=True, kw_only=True)
class TurnText:
    """A turn as rendered text and as tokens, kept small."""

    text: str
    ids: NDArray[np.int32]
    answer_start: int
    answer_end: int

    def tokenize(self) -> TokenizedTurn:
        return TokenizedTurn(
            ids=self.ids.tolist(), answer_start=self.answer_start, answer_end=self.answer_end
        )


class TurnTexts:
    """The texts of turns in one model's conversation.

    Args:
        processor: of the model.
        special_tokens: of the processor.
    """

    def __init__(self, processor: Any, special_tokens: set[str]) -> None:
        self._processor = processor
        self._special_tokens = special_tokens
        self._read_bare = lru_cache(TEXTS_KEPT)(self._render_bare)
        self._read_posed = lru_cache(TEXTS_KEPT)(self._render_posed)

    def read(self, turn: TurnToScore, side: Side) -> TurnText:
        """The text of a turn on one side; an image is one placeholder, not yet expanded.

        Raises:
            ValueError: the chat template changes the answer, or the reply.
        """
        if side == "posed":
            return self._read_posed(turn.question, turn.answer, turn.instruction)
        history = tuple((question, answer) for question, answer in turn.history)
        return self._read_bare(turn.question, turn.answer, side == "image", history, turn.system)

    def _render_bare(
        self, question: str, answer: str, with_image: bool, history: chat.History, system: str
    ) -> TurnText:
        return self._tokenize(
            *chat.render_turn(
                self._processor,
                question,
                answer,
                with_image=with_image,
                history=history,
                system=system,
            )
        )

    def _render_posed(self, question: str, answer: str, instruction: str) -> TurnText:
        reply = c3l.format_reply(question, answer, instruction)
        text, (start, end) = chat.render_turn(self._processor, instruction, reply, with_image=True)
        text = chat.cut_after_reply(self._processor, text, end, self._special_tokens)
        answer_start = start + c3l.find_answer_start(question, instruction)
        return self._tokenize(text, (answer_start, len(text)))

    def _tokenize(self, text: str, span: tuple[int, int]) -> TurnText:
        ids, start, end = chat.tokenize_with_span(self._processor.tokenizer, text, span)
        return TurnText(text=text, ids=np.array(ids, np.int32), answer_start=start, answer_end=end)
