"""The model that learns, and its loss on a micro-batch.

Shapes: B images of the micro-batch, R their texts, T tokens, D the language model's width, V its
vocabulary, K windows of patches.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from c3l_ray.train.learning import losses
from c3l_ray.train.learning.batch_alignment import Align
from c3l_ray.train.reading.batches import MicroBatch, model_inputs
from c3l_ray.train.training_config import TrainConfig


class Learner(nn.Module):
    """A vision-language model and what an objective adds to it; its forward is the loss.

    Args:
        model: Hugging Face's, with LoRA or without.
        config: of the run.
        image_token: the id of the tokens that stand for the image.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, image_token: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.image_token = image_token
        self.sum_names = config.objective_spec.sum_names
        compares_cosines = config.objective == "c3l" and config.contrast.similarity == "cosine"
        # Hidden states cost memory.
        self.needs_hidden_states = compares_cosines or config.objective == "cgvlm"
        if compares_cosines:
            width = self._embedding_width()
            # Xavier-normal weights and no bias to begin with, as a community reproduction has it.
            self.affine = nn.Linear(width, width)
            nn.init.xavier_normal_(self.affine.weight)
            nn.init.zeros_(self.affine.bias)
        elif config.objective == "cgvlm":
            start = torch.tensor([float(config.alignment.temperature)])  # FSDP shards no scalars
            self.log_temperature = nn.Parameter(start.log())

    def forward(
        self, micro_batch: MicroBatch, align: Align = losses.two_sided_alignment
    ) -> dict[str, Tensor]:
        """The loss of a micro-batch and its parts, sums over its images; `loss` has the gradient.

        Args:
            micro_batch: with its masks.
            align: cgvlm's contrast of images and captions.
        """
        target_RT = micro_batch["target_RT"]
        positions = _predicting_positions(target_RT)
        output = self.model(
            **model_inputs(micro_batch),
            logits_to_keep=positions,
            output_hidden_states=self.needs_hidden_states,
            use_cache=False,
        )
        logits_RTV = output.logits
        if logits_RTV.shape[1] != len(positions):  # MiniCPM-V's class computes all of them
            logits_RTV = logits_RTV[:, positions]
        has_target_R = target_RT.any(dim=1)
        nll_R = torch.zeros(len(target_RT), device=target_RT.device).masked_scatter(
            has_target_R,
            losses.token_nll(
                logits_RTV[has_target_R],
                micro_batch["input_ids"][has_target_R][:, positions + 1],
                target_RT[has_target_R][:, positions + 1],
            ),
        )
        nll_B = nll_R[micro_batch["positive_B"]]
        match self.config.objective:
            case "c3l":
                parts_B = self._contrast_turns(micro_batch, output.hidden_states, nll_R)
            case "cgvlm":
                embedding_RTD = _first_stream(output.hidden_states[0])
                parts_B = self._align_captions(micro_batch, embedding_RTD, nll_B, align)
            case "vigc":  # nothing but the likelihood of replies (VIGC, L_VIG and L_VIC)
                parts_B = {"loss": nll_B, "nll": nll_B}
        parts_B["images"] = torch.ones_like(nll_B)
        return {name: (parts_B[name] * micro_batch["weight_B"]).sum() for name in self.sum_names}

    def _contrast_turns(
        self, micro_batch: MicroBatch, hidden_states: tuple[Tensor, ...] | None, nll_R: Tensor
    ) -> dict[str, Tensor]:
        """The loss of c3l and its parts, [B] each."""
        config = self.config.contrast
        owner_R, positive_B = micro_batch["owner_R"], micro_batch["positive_B"]
        nll_B = nll_R[positive_B]
        if hidden_states is None:  # the similarity is likelihood
            similarity_BR = -nll_R.unsqueeze(0).expand(len(nll_B), -1)
        else:
            similarity_BR = self._compare_with_anchors(micro_batch, hidden_states)
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

    def _compare_with_anchors(
        self, micro_batch: MicroBatch, hidden_states: tuple[Tensor, ...]
    ) -> Tensor:
        """The cosine of each image's anchor with each text's reply, [B, R]."""
        layer = -1 if self.config.contrast.representation == "hidden" else 0
        hidden_RTD, anchor_RT = _first_stream(hidden_states[layer]), micro_batch["anchor_RT"]
        has_anchor_R = anchor_RT.any(dim=1)
        anchor_BD = self._represent(hidden_RTD[has_anchor_R], anchor_RT[has_anchor_R])
        reply_RD = self._represent(hidden_RTD, micro_batch["reply_RT"])
        return losses.cosine_similarity(anchor_BD, reply_RD)

    def _represent(self, values_RTD: Tensor, mask_RT: Tensor) -> Tensor:
        """A text's representation [R, D]: affine, tanh, and the mean over its tokens.

        The mean comes first for hidden states, as in CLAPS (arXiv 2012.07280), and last for input
        embeddings, as in the community reproduction of C3L.
        """
        values_RTD = values_RTD.to(self.affine.weight.dtype)
        if self.config.contrast.representation == "hidden":
            return torch.tanh(self.affine(losses.masked_mean(values_RTD, mask_RT)))
        return losses.masked_mean(torch.tanh(self.affine(values_RTD)), mask_RT)

    def _align_captions(
        self, micro_batch: MicroBatch, embedding_RTD: Tensor, nll_B: Tensor, align: Align
    ) -> dict[str, Tensor]:
        """The loss of cgvlm and its parts, [B] each."""
        config = self.config.alignment
        temperature = self.log_temperature.exp().clamp(min=config.min_temperature)
        # What enters the language model: the adapter's features where the image's tokens stand.
        is_image_RT = micro_batch["input_ids"] == self.image_token
        directions = [
            (
                losses.mean_direction(losses.pool_windows(embedding_TD[image_T], config.windows)),
                losses.mean_direction(embedding_TD[text_T]),
            )
            for embedding_TD, image_T, text_T in zip(
                embedding_RTD.float(), is_image_RT, micro_batch["reply_RT"], strict=True
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


def _first_stream(hidden: Tensor) -> Tensor:
    """Hidden states [R, T, D], of the several that Gemma 3n computes side by side those it uses."""
    return hidden[0] if hidden.dim() == 4 else hidden


def _predicting_positions(target_RT: Tensor) -> Tensor:
    """The positions whose logits predict some target: those before them."""
    targets = target_RT.any(dim=0).nonzero().squeeze(1)
    return torch.arange(int(targets[0]) - 1, int(targets[-1]), device=target_RT.device)
