"""Score: every answer's probability with and without the image, under the frozen scorer.

Tensor names carry shapes: B answers in a batch, T tokens of a row, V vocabulary, A tokens of one
answer.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from c3l_ray import chat
from c3l_ray.config import GenerateConfig
from c3l_ray.config import Scorer as ScorerConfig
from c3l_ray.errors import ImageUnusable
from c3l_ray.images import decode
from c3l_ray.inference.clip import Clip
from c3l_ray.methods import i2c
from c3l_ray.methods.i2c import Floats
from c3l_ray.schema import filled


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One turn to measure, with its image and the turns before it."""

    image: Image.Image
    question: str
    answer: str
    history: chat.History = ()


@dataclass(frozen=True, kw_only=True)
class Belief:
    """What the scorer holds of an answer's A tokens, in nats: ln p, ln r, and the KL at each."""

    image_logprobs: Floats
    text_logprobs: Floats
    token_kl: Floats


class PlainScorer:
    """The reference: one row of a batch per turn and side, teacher-forced, right-padded.

    A faster scorer takes its place by having the same `beliefs`.
    """

    def __init__(self, name: str, config: ScorerConfig) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.batch_size = config.batch_size
        self.processor = AutoProcessor.from_pretrained(name)
        self.special = chat.special_tokens(self.processor)
        self.model = AutoModelForImageTextToText.from_pretrained(name, dtype=config.dtype)
        self.model.to(self.device).eval()

    def can_score(self, turn: Asked) -> bool:
        """False for a text that the model's tokenizer or chat template does not take as it is."""
        texts = (turn.question, turn.answer)
        every_text = (*texts, *(text for before in turn.history for text in before))
        if any(token in text for token in self.special for text in every_text):
            return False
        try:
            text, span = chat.answered(self.processor, *texts, image=False, history=turn.history)
        except ValueError:
            return False
        return bool(chat.answer_ids(self.processor.tokenizer, text, span)[0])

    def beliefs(self, asked: Sequence[Asked]) -> list[Belief]:
        """A belief for each turn, in their order; each must be one that `can_score` accepts.

        Rows of like length share a batch, so that little is padded; padding and batch-mates do not
        change a turn's numbers beyond rounding.
        """
        by_length = sorted(
            range(len(asked)), key=lambda i: len(asked[i].question) + len(asked[i].answer)
        )
        found: dict[int, Belief] = {}
        for start in range(0, len(asked), self.batch_size):
            picked = by_length[start : start + self.batch_size]
            found.update(zip(picked, self._batch([asked[i] for i in picked]), strict=True))
        return [found[i] for i in range(len(asked))]

    @torch.inference_mode()
    def _batch(self, asked: list[Asked]) -> Iterator[Belief]:
        with_image = self._answer_logits(asked, image=True)
        without = self._answer_logits(asked, image=False)
        for (ids_A, image_AV), (_, text_AV) in zip(with_image, without, strict=True):
            # In float32 one answer at a time: a whole batch of large vocabularies would not fit.
            image_AV, text_AV = (x.float().log_softmax(dim=-1) for x in (image_AV, text_AV))
            at = ids_A.unsqueeze(-1)
            kl_A = torch.sum(image_AV.exp() * (image_AV - text_AV), dim=-1)
            yield Belief(
                image_logprobs=_numpy(image_AV.gather(-1, at).squeeze(-1)),
                text_logprobs=_numpy(text_AV.gather(-1, at).squeeze(-1)),
                token_kl=_numpy(kl_A.clamp(min=0)),
            )

    def _answer_logits(self, asked: list[Asked], *, image: bool) -> list[tuple[Tensor, Tensor]]:
        """For each turn its answer's ids [A], and the logits [A, V] that predict them."""
        rendered = [
            chat.answered(
                self.processor, turn.question, turn.answer, image=image, history=turn.history
            )
            for turn in asked
        ]
        texts = [text for text, _ in rendered]
        images = {"images": [[turn.image] for turn in asked]} if image else {}
        inputs = self.processor(
            text=texts,
            **images,
            padding=True,
            padding_side="right",
            return_tensors="pt",
            add_special_tokens=not chat.begins(self.processor.tokenizer, texts[0]),
        ).to(self.device, dtype=self.model.dtype)
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        spans = []
        for row, (text, span) in enumerate(rendered):
            ids, num_after = chat.answer_ids(self.processor.tokenizer, text, span)
            end = lengths[row] - num_after
            spans.append((end - len(ids), end))
            # The placeholder grows into image tokens before the answer, never inside it.
            assert inputs["input_ids"][row, end - len(ids) : end].tolist() == ids
        # The logits at a position are of the token after it. Only positions that predict some
        # row's answer are computed.
        first = min(start for start, _ in spans) - 1
        positions = torch.arange(first, max(end for _, end in spans) - 1, device=self.device)
        logits_BTV = self.model(**inputs, logits_to_keep=positions).logits
        return [
            (
                inputs["input_ids"][row, start:end],
                logits_BTV[row, start - 1 - first : end - 1 - first],
            )
            for row, (start, end) in enumerate(spans)
        ]


class Score:
    """Reads: image, turns, error. Fills: the scores of every turn that is ok, error, score_s.

    A turn that the scorer cannot read as it is keeps null scores.
    """

    def __init__(self, config: GenerateConfig) -> None:
        self.max_pixels = config.max_pixels
        self.scorer = PlainScorer(config.scorer_name, config.scorer)
        self.clip = Clip(config.clip)

    def __call__(self, table: pa.Table) -> pa.Table:
        started = time.monotonic()
        images, turns, errors = (table[name].to_pylist() for name in ("image", "turns", "error"))
        asked: list[Asked] = []
        scored: list[dict[str, Any]] = []
        for row, error in enumerate(errors):
            if error is not None:
                continue
            try:
                image = decode(images[row], self.max_pixels)  # once, for both models
            except ImageUnusable as unusable:
                errors[row] = str(unusable)
                continue
            for turn in turns[row]:
                if turn["status"] != "ok":
                    continue
                one = Asked(image=image, question=turn["question"], answer=turn["answer"])
                if self.scorer.can_score(one):
                    scored.append(turn)
                    asked.append(one)
        for turn, scores in zip(scored, self.scores(asked), strict=True):
            turn["scores"] = scores
        seconds = time.monotonic() - started
        return filled(table, turns=turns, error=errors, score_s=[seconds] * len(errors))

    def scores(self, asked: list[Asked]) -> list[dict[str, float]]:
        """The scores of each turn, by their names in the schema."""
        if not asked:
            return []
        beliefs = self.scorer.beliefs(asked)
        cosines = self.clip.cosines(
            [turn.image for turn in asked], [f"{turn.question} {turn.answer}" for turn in asked]
        )
        return [
            {
                **(i2c.scores(belief.image_logprobs, belief.text_logprobs, belief.token_kl) or {}),
                "clip": cosine,
            }
            for belief, cosine in zip(beliefs, cosines, strict=True)
        ]


def _numpy(values_A: Tensor) -> Floats:
    return np.asarray(values_A.cpu().numpy())
