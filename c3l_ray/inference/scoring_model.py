"""The frozen scorer: a vision-language model, its processor, and what it holds of given tokens.

Tensor names carry shapes: B rows, T tokens of a row, N answer tokens, D the model's width,
V vocabulary.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from c3l_ray import chat
from c3l_ray.config import Scorer as ScorerConfig
from c3l_ray.methods.i2c import AnswerEvidence
from c3l_ray.model_files import local

# Logits of one side that are computed at a time: 128 MiB in float32.
LOGITS_AT_ONCE = 2**25
# What a processor returns for each token; all else belongs to the images.
OF_TOKENS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")

Inputs = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One turn to measure, with its image and the turns before it.

    Attributes:
        without: the image of the side "without the image"; None leaves the image out.
    """

    image: Image.Image
    question: str
    answer: str
    history: chat.History = ()
    without: Image.Image | None = None


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A turn as token ids, and the places [start, end) of its answer among them."""

    ids: list[int]
    start: int
    end: int


class Frozen:
    """The model that scores, in evaluation, on the GPU where there is one.

    Raises:
        OSError, ValueError: the checkpoint cannot be loaded.
    """

    def __init__(self, config: ScorerConfig, name: str) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        name = local(name)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.max_tokens = config.max_tokens
        self.processor: Any = AutoProcessor.from_pretrained(name)
        self.special = chat.special_tokens(self.processor)
        model = AutoModelForImageTextToText.from_pretrained(name, dtype=config.dtype)
        self.model: Any = model.to(self.device).eval()
        self.head: Any = self.model.get_output_embeddings()
        text = self.model.config.get_text_config()
        self.longest: int = getattr(text, "max_position_embeddings", None) or sys.maxsize

    def can_score(self, turn: Asked) -> bool:
        """False for a text that the model's tokenizer or chat template does not take as it is, or
        that is longer than what the model was made for.
        """
        every_text = (turn.question, turn.answer, *(text for past in turn.history for text in past))
        if any(token in text for token in self.special for text in every_text):
            return False
        try:
            rendered = self.rendered(turn, image=False)
        except ValueError:
            return False
        return rendered.end > rendered.start and len(rendered.ids) <= self.longest

    def rendered(self, turn: Asked, *, image: bool) -> Rendered:
        """The whole turn; an image is the one placeholder of the chat template, not yet expanded.

        Raises:
            ValueError: the chat template does not hold the answer as it was given.
        """
        text, span = chat.answered(
            self.processor, turn.question, turn.answer, image=image, history=turn.history
        )
        ids, start, end = chat.spanned_ids(self.processor.tokenizer, text, span)
        return Rendered(ids=ids, start=start, end=end)

    def processed(self, turn: Asked, image: Image.Image | None) -> Inputs:
        """The processor's inputs for one turn, of one row, an image's placeholder expanded."""
        text, _ = chat.answered(
            self.processor,
            turn.question,
            turn.answer,
            image=image is not None,
            history=turn.history,
        )
        inputs: Inputs = dict(
            self.processor(
                text=[text],
                **({} if image is None else {"images": [[image]]}),
                return_tensors="pt",
                add_special_tokens=not chat.begins(self.processor.tokenizer, text),
            )
        )
        return inputs

    def hidden(self, inputs: Inputs) -> Tensor:
        """The last hidden states [B, T, D], which the head turns into logits."""
        placed = {
            name: _placed(values, self.device, self.model.dtype) for name, values in inputs.items()
        }
        hidden_BTD: Tensor = self.model.base_model(**placed, use_cache=False).last_hidden_state
        return hidden_BTD

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """[N, V] in float32: rounded to half precision they would be 0.03 nats off at -10."""
        if hidden_ND.dtype in (torch.float32, torch.float64):
            logits_NV: Tensor = self.head(hidden_ND)
            return logits_NV
        weight_VD, bias = self.head.weight, self.head.bias
        if hidden_ND.is_cuda:
            logits_NV = torch.mm(hidden_ND, weight_VD.T, out_dtype=torch.float32)
        else:
            logits_NV = hidden_ND.float() @ weight_VD.T.float()
        return logits_NV if bias is None else logits_NV + bias.float()

    def beliefs(
        self, image_ND: Tensor, text_ND: Tensor, ids_N: Tensor, lengths: Sequence[int]
    ) -> list[AnswerEvidence]:
        """What the hidden states before each answer token say of it, for answers of these lengths.

        Never more logits at once than LOGITS_AT_ONCE, whatever the vocabulary.
        """
        at_once = max(1, LOGITS_AT_ONCE // len(self.head.weight))
        columns = [
            self._columns(*parts)
            for parts in zip(
                *(part.split(at_once) for part in (image_ND, text_ND, ids_N)), strict=True
            )
        ]
        joined = {
            name: np.concatenate([part[name].cpu().numpy() for part in columns])
            for name in columns[0]
        }
        borders = np.cumsum(lengths)[:-1]
        answers = {name: np.split(values, borders) for name, values in joined.items()}
        return [
            AnswerEvidence(**{name: values[i] for name, values in answers.items()})
            for i in range(len(lengths))
        ]

    def _columns(self, image_ND: Tensor, text_ND: Tensor, ids_N: Tensor) -> Inputs:
        at_N1 = ids_N.unsqueeze(-1)
        image_NV, text_NV = self.logits(image_ND), self.logits(text_ND)
        image_logits_N, text_logits_N = (
            x.gather(-1, at_N1).squeeze(-1) for x in (image_NV, text_NV)
        )
        image_first_N, text_first_N = (x.argmax(-1) == ids_N for x in (image_NV, text_NV))
        image_NV, text_NV = image_NV.log_softmax(-1), text_NV.log_softmax(-1)
        image_N, text_N = (x.gather(-1, at_N1).squeeze(-1) for x in (image_NV, text_NV))
        # in place: the vocabulary is what costs memory here
        kl_N = (text_NV.neg_().add_(image_NV).mul_(image_NV.exp_())).sum(-1)
        return {
            "image_logprobs": image_N,
            "text_logprobs": text_N,
            "image_logits": image_logits_N,
            "text_logits": text_logits_N,
            "image_first": image_first_N,
            "text_first": text_first_N,
            "token_kl": kl_N.clamp(min=0),
        }


def of_images(inputs: Inputs) -> Inputs:
    """What a processor returned that belongs to the images and not to the tokens."""
    return {name: values for name, values in inputs.items() if name not in OF_TOKENS}


def joined(rows: Iterable[Inputs]) -> Inputs:
    """Inputs of one row each as inputs of them all, padded on the right and with zeros."""
    rows = list(rows)
    return {name: _joined([row[name] for row in rows]) for name in rows[0]}


def _joined(rows: list[Tensor]) -> Tensor:
    sizes = [max(row.shape[axis] for row in rows) for axis in range(1, rows[0].dim())]
    if all(list(row.shape[1:]) == sizes for row in rows):
        return torch.cat(rows)
    out = rows[0].new_zeros(sum(len(row) for row in rows), *sizes)
    first = 0
    for row in rows:
        out[(slice(first, first + len(row)), *(slice(size) for size in row.shape[1:]))] = row
        first += len(row)
    return out


def _placed(values: Any, device: str, dtype: torch.dtype) -> Any:
    """On the device, and of the model's precision where it is a floating one."""
    if isinstance(values, dict):
        return {name: _placed(each, device, dtype) for name, each in values.items()}
    if values.is_floating_point():
        return values.to(device, dtype)
    return values.to(device)
