"""The scoring model: a frozen vision-language model and what it says of given tokens.

Tensor names carry shapes: B rows, T tokens of a row, N answer tokens, D the model's width,
V vocabulary.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from c3l_ray import chat
from c3l_ray.image_memo import preprocess_once
from c3l_ray.inference.logit_transform import LogitTransform, restore_logit_transform
from c3l_ray.inference.model_inputs import ModelInputs, move_values
from c3l_ray.inference.placement import check_placement, choose_device_map
from c3l_ray.inference.token_evidence import gather_tokens, measure_tokens
from c3l_ray.inference.turn_texts import Side, TokenizedTurn, TurnTexts, TurnToScore
from c3l_ray.inference.whole_model import load_whole_model
from c3l_ray.methods.i2c import AnswerEvidence, Floats
from c3l_ray.model_config import ScorerModel
from c3l_ray.model_files import resolve_model
from c3l_ray.processors import load_processor
from c3l_ray.schema import TurnStatus

# The most logits of one side that are computed at once: 128 MiB in float32.
MAX_LOGITS = 2**25

__all__ = ["MAX_LOGITS", "ScoringModel", "TokenizedTurn", "TurnToScore"]


class ScoringModel:
    """The model that scores, in evaluation mode, on the GPU where there is one, or on several.

    Args:
        config: of the model.
        name: as the user gave it.
        device_map: as transformers takes it; None chooses.

    Attributes:
        name: as the user gave it.
        vlm: the vision-language model of transformers.
        max_tokens: in one forward pass, padding included.
        max_positions: the longest sequence that the model was made for, in tokens.
        logit_transform: what the model does to its logits after the output head; nothing, until
            `scorer_checks.find_logit_transform` has found it out.

    Raises:
        OSError, ValueError: the checkpoint cannot be loaded.
        PreflightError: the GPUs do not hold it, or the checkpoint does not hold all of it.
    """

    def __init__(self, config: ScorerModel, name: str, device_map: Any = None) -> None:
        self.name = name
        path = resolve_model(name, config.revision)
        own_code = {"trust_remote_code": config.trust_remote_code}
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.max_tokens = config.max_tokens
        self.processor: Any = preprocess_once(
            load_processor(
                name,
                config.template_args,
                revision=config.revision,
                trust_remote_code=config.trust_remote_code,
            )
        )
        self.special_tokens = chat.special_tokens(self.processor)
        self.texts = TurnTexts(self.processor, self.special_tokens)
        chosen_map = device_map or choose_device_map()
        model = load_whole_model(name, path, dtype=config.dtype, device_map=chosen_map, **own_code)
        restore_logit_transform(model)
        if chosen_map is None:
            model = model.to(self.device)
        elif device_map is None:
            check_placement(name, model.hf_device_map)
        self.vlm: Any = model.eval()
        self.head: Any = self.vlm.get_output_embeddings()
        self.logit_transform = LogitTransform()
        text_config = self.vlm.config.get_text_config()
        self.max_positions: int = (
            getattr(text_config, "max_position_embeddings", None) or sys.maxsize
        )

    @property
    def family(self) -> str:
        """The `model_type` of the model's config, such as "qwen2_5_vl"."""
        family: str = self.vlm.config.model_type
        return family

    def unscorable_status(self, turn: TurnToScore) -> TurnStatus | None:
        """The status of a turn that cannot be scored as it is, or None for one that can.

        "special_tokens": a text of the turn, or what was said before it, holds one.
        "altered_by_template": the model's chat template changes the answer.
        "empty": the answer has no tokens.
        "too_long": the turn without its image has more tokens than the model has positions; with
        it, the scorers count, which expand it.
        """
        texts = [turn.question, turn.answer, turn.system]
        texts += (text for past in turn.history for text in past)
        if any(token in text for token in self.special_tokens for text in texts):
            return "special_tokens"
        try:
            tokenized = self.tokenize_turn(turn, with_image=False)
        except ValueError:
            return "altered_by_template"
        if not tokenized.answer_ids:
            return "empty"
        return "too_long" if len(tokenized.ids) > self.max_positions else None

    def unposable_status(self, turn: TurnToScore) -> TurnStatus | None:
        """As `unscorable_status`, of the turn as a reply to its instruction.

        Args:
            turn: with an instruction, that `unscorable_status` has nothing against.
        """
        if any(token in turn.instruction for token in self.special_tokens):
            return "special_tokens"
        try:
            tokenized = self.tokenize_posed_turn(turn)
        except ValueError:
            return "altered_by_template"
        return "too_long" if len(tokenized.ids) > self.max_positions else None

    def tokenize_turn(self, turn: TurnToScore, *, with_image: bool) -> TokenizedTurn:
        """The whole turn; an image is the one placeholder of the chat template, not yet expanded.

        Raises:
            ValueError: the chat template changes the answer.
        """
        return self.texts.read(turn, "image" if with_image else "text").tokenize()

    def tokenize_posed_turn(self, turn: TurnToScore) -> TokenizedTurn:
        """The turn as the reply that its instruction asks for, the image not yet expanded.

        The answer's places are those of all that the model writes after the question: in JSON the
        escaped answer and the end of the object, and what ends the reply.

        Raises:
            ValueError: the chat template changes the reply.
        """
        return self.texts.read(turn, "posed").tokenize()

    def process_turn(self, turn: TurnToScore, image: Image.Image | None) -> ModelInputs:
        """The processor's inputs for one turn, of one row, an image's placeholder expanded."""
        side: Side = "text" if image is None else "image"
        return self._process_text(self.texts.read(turn, side).text, image)

    def process_posed_turn(self, turn: TurnToScore) -> ModelInputs:
        """As `process_turn`, of the turn as a reply to its instruction."""
        return self._process_text(self.texts.read(turn, "posed").text, turn.image)

    def _process_text(self, text: str, image: Image.Image | None) -> ModelInputs:
        inputs: ModelInputs = dict(
            self.processor(
                text=[text],
                **({} if image is None else {"images": [[image]]}),
                return_tensors="pt",
                add_special_tokens=not chat.has_bos(self.processor.tokenizer, text),
            )
        )
        inputs.pop("labels", None)  # PaliGemma's processor makes them, of the prompt
        return inputs

    def move_inputs(self, inputs: ModelInputs) -> ModelInputs:
        """Inputs on the device, the floating ones in the model's precision."""
        return {
            name: move_values(values, self.device, self.vlm.dtype)
            for name, values in inputs.items()
        }

    def hidden_states(self, inputs: ModelInputs) -> Tensor:
        """The last hidden states [B, T, D], which the head turns into logits."""
        output = self.vlm.base_model(**self.move_inputs(inputs), use_cache=False)
        hidden_BTD: Tensor = output.last_hidden_state
        return hidden_BTD.to(self.head.weight.device)  # where a model lies on several GPUs

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """[N, V] in float32, as the model's own forward pass computes them."""
        return self.logit_transform.apply(self.head_logits(hidden_ND))

    def head_logits(self, hidden_ND: Tensor) -> Tensor:
        """[N, V] as the output head leaves them.

        They are in float32: rounded to half precision they would be 0.03 nats off at -10.
        """
        if hidden_ND.dtype in (torch.float32, torch.float64):
            logits_NV: Tensor = self.head(hidden_ND)
            return logits_NV
        weight_VD, bias = self.head.weight, self.head.bias
        if hidden_ND.is_cuda:
            logits_NV = torch.mm(hidden_ND, weight_VD.T, out_dtype=torch.float32)
        else:
            logits_NV = hidden_ND.float() @ weight_VD.T.float()
        return logits_NV if bias is None else logits_NV + bias.float()

    def compute_evidence(
        self, image_ND: Tensor, text_ND: Tensor, ids_N: Tensor, lengths: Sequence[int]
    ) -> list[AnswerEvidence]:
        """The evidence in each answer, from the hidden states that predict its tokens.

        Never more than MAX_LOGITS logits at once, whatever the vocabulary.

        Args:
            image_ND: hidden states with the image, of all answers one after the other.
            text_ND: the same without the image.
            ids_N: the answers' tokens.
            lengths: of the answers, in tokens; their sum is N.
        """
        tokens_at_once = max(1, MAX_LOGITS // len(self.head.weight))
        chunks = [
            measure_tokens(self.logits, *tensors)
            for tensors in zip(
                *(tensor.split(tokens_at_once) for tensor in (image_ND, text_ND, ids_N)),
                strict=True,
            )
        ]
        columns = {
            name: np.concatenate([chunk[name].cpu().numpy() for chunk in chunks])
            for name in chunks[0]
        }
        borders = np.cumsum(lengths)[:-1]
        split_columns = {name: np.split(values, borders) for name, values in columns.items()}
        return [
            AnswerEvidence(**{name: answers[i] for name, answers in split_columns.items()})
            for i in range(len(lengths))
        ]

    def compute_logprobs(
        self, hidden_ND: Tensor, ids_N: Tensor, lengths: Sequence[int]
    ) -> list[Floats]:
        """ln p of each answer's tokens, in nats, as `compute_evidence` computes it."""
        tokens_at_once = max(1, MAX_LOGITS // len(self.head.weight))
        chunks = [
            gather_tokens(self.logits(chunk).log_softmax(-1), ids).cpu().numpy()
            for chunk, ids in zip(
                hidden_ND.split(tokens_at_once), ids_N.split(tokens_at_once), strict=True
            )
        ]
        return np.split(np.concatenate(chunks), np.cumsum(lengths)[:-1])
