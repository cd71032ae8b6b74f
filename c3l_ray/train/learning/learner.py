"""The model that learns, and its loss on a micro-batch.

Shapes: B images of the micro-batch, R their texts, T tokens, D the language model's width, V its
vocabulary, K windows of patches.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from c3l_ray.inference.pack_attention import PackAttention
from c3l_ray.train.learning import losses
from c3l_ray.train.learning.batch_alignment import Align
from c3l_ray.train.learning.output_head import NUM_PROVED_TOKENS, OutputHead
from c3l_ray.train.learning.reference import without_lora
from c3l_ray.train.learning.shared_rows import has_siblings, share_prefixes
from c3l_ray.train.learning.text_rows import TOKEN_INPUTS, TextRows, TokenStates
from c3l_ray.train.reading.batches import MicroBatch, model_inputs
from c3l_ray.train.training_config import TrainConfig


class Learner(nn.Module):
    """A vision-language model and what an objective adds to it; its forward is the loss.

    Args:
        model: Hugging Face's, with LoRA or without.
        config: of the run.
        image_token: the id of the tokens that stand for the image.

    Attributes:
        attention: of the model's layers, with which the texts of an image share what they begin
            with; None gives each text a row of its own. `sharing_check` finds out.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, image_token: int) -> None:
        super().__init__()
        self.model = model
        self.head = OutputHead(bare_model(model))
        self.config = config
        self.image_token = image_token
        self.attention: PackAttention | None = None
        self.sum_names = config.sum_names
        compares_cosines = config.objective == "c3l" and config.contrast.similarity == "cosine"
        # What the language half is given; the hidden states of all layers come with it.
        self.needs_embeddings = config.objective == "cgvlm" or (
            compares_cosines and config.contrast.representation == "embedding"
        )
        if compares_cosines:
            width = self._embedding_width()
            self.affine = nn.Linear(width, width)
        elif config.objective == "cgvlm":
            self.temperature = Temperature()

    def draw_added_weight(self, name: str, generator: torch.Generator) -> Tensor:
        """What a weight that belongs to the loss and not to the model begins with.

        Args:
            name: of the weight.
            generator: of random numbers.
        """
        if name == "temperature.log":
            return torch.tensor([self.config.alignment.temperature]).log()
        width = self._embedding_width()
        if name == "affine.bias":
            return torch.zeros(width)
        assert name == "affine.weight", name
        # Xavier-normal weights and no bias to begin with, as a community reproduction has it.
        return nn.init.xavier_normal_(torch.empty(width, width), generator=generator)

    def forward(
        self, micro_batch: MicroBatch, align: Align = losses.two_sided_alignment
    ) -> dict[str, Tensor]:
        """The loss of a micro-batch and its parts, sums over its images; `loss` has the gradient.

        The model computes as autocast has it, the losses in float32 whatever that is.

        Args:
            micro_batch: with its masks.
            align: cgvlm's contrast of images and captions.
        """
        # Before the pass with gradients: FSDP gathers for the backward pass as the last one did.
        initial_nll_R = self._compute_initial_nll(micro_batch)
        states, nll_R = self._compute_states(micro_batch)
        with torch.autocast(nll_R.device.type, enabled=False):
            nll_B = nll_R[micro_batch["positive_B"]]
            match self.config.objective:
                case "c3l":
                    parts_B = self._contrast_turns(micro_batch, states, nll_R)
                case "cgvlm":
                    parts_B = self._align_captions(micro_batch, states, nll_B, align)
                case "vigc" | "conversations":  # nothing but the likelihood of replies
                    parts_B = {"loss": nll_B, "nll": nll_B}
                case "answers":
                    parts_B = self._compare_answers(micro_batch, nll_R, initial_nll_R)
            parts_B["images"] = torch.ones_like(nll_B)
            return {
                name: (parts_B[name] * micro_batch["weight_B"]).sum() for name in self.sum_names
            }

    def _compute_states(self, micro_batch: MicroBatch) -> tuple[TokenStates, Tensor]:
        """What the objective compares of the texts' tokens, and each text's -ln p [R].

        The latter is the weighted mean over the text's targets, 0 for a text without any.
        """
        ids_RT, target_RT = micro_batch["input_ids"], micro_batch["target_RT"]
        if not self.head.is_tried:
            self.head.find_transform(self._text_inputs(micro_batch))
        if self.attention is not None and has_siblings(micro_batch):
            inputs, rows = share_prefixes(
                micro_batch, self.head.vlm, self.attention, self.image_token
            )
        else:
            inputs, rows = model_inputs(micro_batch), TextRows.plain(ids_RT)
        text_N, token_N = target_RT.nonzero(as_tuple=True)
        output, nll_N = self.head.compute(
            {**inputs, "output_hidden_states": self.needs_embeddings},
            lambda hidden_BLD: rows.take(hidden_BLD, text_N, token_N - 1),
            ids_RT[text_N, token_N],
        )
        values_BLD = output.hidden_states[0] if self.needs_embeddings else output.last_hidden_state
        values_BLD = _first_stream(values_BLD)
        nll_R = losses.mean_by_text(nll_N[:, None], text_N, target_RT)[:, 0]
        return TokenStates(values_BLD=values_BLD, rows=rows), nll_R

    def _compute_initial_nll(self, micro_batch: MicroBatch) -> Tensor | None:
        """Each text's -ln p [R] by the model that training began with, where the loss needs it."""
        if not self.config.compares_with_reference:
            return None
        with without_lora(self.model):
            return self._compute_states(micro_batch)[1]

    def _text_inputs(self, micro_batch: MicroBatch) -> MicroBatch:
        """The first text's first tokens without its image, as inputs of the model."""
        ids_RT, attention_RT = micro_batch["input_ids"], micro_batch["attention_mask"]
        is_text_T = (attention_RT[0] > 0) & (ids_RT[0] != self.image_token)
        places_T = is_text_T.nonzero()[:NUM_PROVED_TOKENS, 0]
        inputs = model_inputs(micro_batch)
        names = [name for name in TOKEN_INPUTS if name in inputs]
        return {name: inputs[name][:1, places_T] for name in names}

    def _contrast_turns(
        self, micro_batch: MicroBatch, states: TokenStates, nll_R: Tensor
    ) -> dict[str, Tensor]:
        """The loss of c3l and its parts, [B] each."""
        config = self.config.contrast
        owner_R, positive_B = micro_batch["owner_R"], micro_batch["positive_B"]
        nll_B = nll_R[positive_B]
        if config.similarity == "likelihood":
            similarity_BR = -nll_R.unsqueeze(0).expand(len(nll_B), -1)
        else:
            similarity_BR = self._compare_with_anchors(micro_batch, states)
        own_BR = owner_R.unsqueeze(0) == torch.arange(len(nll_B), device=owner_R.device)[:, None]
        allowed_BR = micro_batch["is_turn_R"].unsqueeze(0).expand_as(own_BR)
        if config.in_batch_negatives:
            # An image that only fills its place may be there twice: it is no negative of itself.
            allowed_BR = allowed_BR & (own_BR | (micro_batch["weight_B"][owner_R] > 0))
        else:
            allowed_BR = allowed_BR & own_BR
        contrastive_B = losses.info_nce(similarity_BR, positive_B, allowed_BR, config.temperature)
        positive_B1 = positive_B.unsqueeze(1)
        negative_BR = allowed_BR.scatter(1, positive_B1, False)
        num_negatives_B = negative_BR.sum(dim=1).clamp(min=1)
        return {
            "loss": contrastive_B + config.nll_weight * nll_B,
            "contrastive": contrastive_B,
            "nll": nll_B,
            "positive_similarity": similarity_BR.gather(1, positive_B1).squeeze(1),
            "negative_similarity": (similarity_BR * negative_BR).sum(dim=1) / num_negatives_B,
            "temperature": torch.full_like(nll_B, config.temperature),
        }

    def _compare_answers(
        self, micro_batch: MicroBatch, nll_R: Tensor, initial_nll_R: Tensor | None
    ) -> dict[str, Tensor]:
        """The loss of answers and its parts, [B] each; an image's texts are the best and worst."""
        config = self.config.answers
        num_tokens_R = (micro_batch["target_RT"] != 0).sum(dim=1)
        best_B = micro_batch["positive_B"]
        worst_B = best_B + 1
        log_p_R = -nll_R * num_tokens_R
        margin_B = log_p_R[best_B] - log_p_R[worst_B]
        parts_B = {
            "loss": nll_R[best_B],
            "nll": nll_R[best_B],
            "margin": margin_B,
            "pair_accuracy": (margin_B > 0).float(),
        }
        if initial_nll_R is None:
            return parts_B
        gain_R = log_p_R + initial_nll_R * num_tokens_R
        gain_B = gain_R[best_B] - gain_R[worst_B]
        pair_B = losses.prefer_best(gain_B, config.pair_loss, config.beta)
        anchor_B = losses.prefer_best(gain_R[best_B], "dpo", config.beta)
        return {
            **parts_B,
            "loss": nll_R[best_B] + config.pair_weight * pair_B + config.anchor * anchor_B,
            "pair": pair_B,
            "margin_gain": gain_B,
        }

    def _compare_with_anchors(self, micro_batch: MicroBatch, states: TokenStates) -> Tensor:
        """The cosine of each image's anchor with each text's reply, [B, R]."""
        anchor_RT, reply_RT = micro_batch["anchor_RT"], micro_batch["reply_RT"]
        anchor_BD = self._represent(states, anchor_RT)[anchor_RT.any(dim=1)]
        return losses.cosine_similarity(anchor_BD, self._represent(states, reply_RT))

    def _represent(self, states: TokenStates, mask_RT: Tensor) -> Tensor:
        """A text's representation [R, D]: affine, tanh, and the mean over its tokens.

        The mean comes first for hidden states, as in CLAPS (arXiv 2012.07280), and last for input
        embeddings, as in the community reproduction of C3L.
        """
        text_N, token_N = mask_RT.nonzero(as_tuple=True)
        values_ND = states.rows.take(states.values_BLD, text_N, token_N).float()
        if self.config.contrast.representation == "hidden":
            mean_RD = losses.mean_by_text(values_ND, text_N, mask_RT)
            return torch.tanh(self.affine(mean_RD))
        return losses.mean_by_text(torch.tanh(self.affine(values_ND)), text_N, mask_RT)

    def _align_captions(
        self, micro_batch: MicroBatch, states: TokenStates, nll_B: Tensor, align: Align
    ) -> dict[str, Tensor]:
        """The loss of cgvlm and its parts, [B] each."""
        config = self.config.alignment
        temperature = self.temperature().clamp(min=config.min_temperature)
        # What enters the language model: the adapter's features where the image's tokens stand.
        is_image_RT = micro_batch["input_ids"] == self.image_token
        directions = [
            (
                losses.mean_direction(losses.pool_windows(embedding_TD[image_T], config.windows)),
                losses.mean_direction(embedding_TD[text_T]),
            )
            for embedding_TD, image_T, text_T in zip(
                states.values_BLD.float(), is_image_RT, micro_batch["reply_RT"], strict=True
            )
        ]
        image_BD, text_BD = (torch.stack(side) for side in zip(*directions, strict=True))
        contrastive_B, own_similarity_B, other_similarity_B = align(
            image_BD, text_BD, micro_batch["weight_B"], temperature
        )
        return {
            "loss": nll_B + config.weight * contrastive_B,
            "contrastive": contrastive_B,
            "nll": nll_B,
            "positive_similarity": own_similarity_B,
            "negative_similarity": other_similarity_B,
            "temperature": temperature.expand_as(nll_B),
        }

    def float32_parts(self) -> Iterator[nn.Module]:
        """The modules that belong to the loss and not to the model, which compute in float32."""
        for name, module in self.named_children():
            if name != "model":
                yield module

    def language_weights(self) -> Iterator[nn.Parameter]:
        """The weights that a token passes through in the language half, the embeddings left out."""
        model: Any = self.model
        yield from model.get_output_embeddings().parameters()
        embedding_ids = {id(weight) for weight in model.get_input_embeddings().parameters()}
        for weight in model.get_decoder().parameters():
            if id(weight) not in embedding_ids:
                yield weight

    def _embedding_width(self) -> int:
        embeddings = self.model.get_input_embeddings()  # type: ignore[operator]
        return int(embeddings.weight.shape[1])


def bare_model(model: Any) -> Any:
    """The model of transformers inside what peft puts around it."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


class Temperature(nn.Module):
    """A temperature that is learnt by its logarithm, [1]."""

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.zeros(1))  # FSDP shards no scalars

    def forward(self) -> Tensor:
        temperature: Tensor = self.log.exp()
        return temperature


def _first_stream(hidden: Tensor) -> Tensor:
    """Hidden states [B, L, D], of the several that Gemma 3n computes side by side those it uses."""
    return hidden[0] if hidden.dim() == 4 else hidden
