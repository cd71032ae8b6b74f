"""The model that learns: which of its weights do, its loss on a share, how workers share it.

Shapes: B images of the share, R their sequences, T tokens, D the language model's width, V its
vocabulary, K windows of patches.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from c3l_ray.errors import PreflightError
from c3l_ray.model_files import local
from c3l_ray.train.learning import losses
from c3l_ray.train.reading.batches import Batch, inputs_of
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.train.learning.batch_alignment import Align

ADAPTERS = ("multi_modal_projector", "merger", "connector")  # LLaVA; Qwen-VL; Idefics3, SmolVLM


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
        self.parts = config.traits.parts
        by_cosine = config.objective == "c3l" and config.contrast.similarity == "cosine"
        self.compares = by_cosine or config.objective == "cgvlm"  # hidden states, which cost memory
        if by_cosine:
            width = self._width()
            # Xavier-normal weights and no bias to begin with, as a community reproduction has it.
            self.affine = nn.Linear(width, width)
            nn.init.xavier_normal_(self.affine.weight)
            nn.init.zeros_(self.affine.bias)
        elif config.objective == "cgvlm":
            start = torch.tensor([float(config.alignment.temperature)])  # FSDP shards no scalars
            self.log_temperature = nn.Parameter(start.log())

    def forward(self, batch: Batch, align: Align = losses.two_sided) -> dict[str, Tensor]:
        """The objective's parts of a share, sums over its images; `loss` has the gradient.

        Args:
            batch: the share.
            align: cgvlm's contrast of images and captions.
        """
        target_RT = batch["target_RT"]
        positions = _positions(target_RT)
        output = self.model(
            **inputs_of(batch),
            logits_to_keep=positions,
            output_hidden_states=self.compares,
            use_cache=False,
        )
        learnt_R = target_RT.any(dim=1)
        nll_R = torch.zeros(len(target_RT), device=target_RT.device).masked_scatter(
            learnt_R,
            losses.token_nll(
                output.logits[learnt_R],
                batch["input_ids"][learnt_R][:, positions + 1],
                target_RT[learnt_R][:, positions + 1],
            ),
        )
        nll_B = nll_R[batch["positive_B"]]
        match self.config.objective:
            case "c3l":
                parts_B = self._contrast(batch, output.hidden_states, nll_R)
            case "cgvlm":
                parts_B = self._align(batch, output.hidden_states[0], nll_B, align)
            case "vigc":  # nothing but the likelihood of replies (VIGC, L_VIG and L_VIC)
                parts_B = {"loss": nll_B, "nll": nll_B}
        parts_B["images"] = torch.ones_like(nll_B)
        return {name: (parts_B[name] * batch["weight_B"]).sum() for name in self.parts}

    def _contrast(
        self, batch: Batch, hidden: tuple[Tensor, ...] | None, nll_R: Tensor
    ) -> dict[str, Tensor]:
        config = self.config.contrast
        owner_R, positive_B = batch["owner_R"], batch["positive_B"]
        nll_B = nll_R[positive_B]
        if hidden is None:  # --contrast.similarity likelihood
            similarity_BR = -nll_R.unsqueeze(0).expand(len(nll_B), -1)
        else:
            similarity_BR = self._cosines(batch, hidden)
        own_BR = owner_R.unsqueeze(0) == torch.arange(len(nll_B), device=owner_R.device)[:, None]
        allowed_BR = batch["is_turn_R"].unsqueeze(0).expand_as(own_BR)
        if config.in_batch_negatives:
            # An image that only fills its place may be there twice: it is no negative of itself.
            allowed_BR = allowed_BR & (own_BR | (batch["weight_B"][owner_R] > 0))
        else:
            allowed_BR = allowed_BR & own_BR
        contrastive_B = losses.info_nce(similarity_BR, positive_B, allowed_BR, config.temperature)
        at_positive_B1 = positive_B.unsqueeze(1)
        negative_BR = allowed_BR.scatter(1, at_positive_B1, False)
        num_negatives_B = negative_BR.sum(dim=1).clamp(min=1)
        return {
            "loss": contrastive_B + config.nll_weight * nll_B,
            "contrastive": contrastive_B,
            "nll": nll_B,
            "positive_similarity": similarity_BR.gather(1, at_positive_B1).squeeze(1),
            "negative_similarity": (similarity_BR * negative_BR).sum(dim=1) / num_negatives_B,
            "temperature": torch.full_like(nll_B, config.temperature),
        }

    def _cosines(self, batch: Batch, hidden: tuple[Tensor, ...]) -> Tensor:
        """The cosine of each image's anchor with each turn, [B, R]."""
        layer_RTD = hidden[-1 if self.config.contrast.representation == "hidden" else 0]
        has_anchor_R = batch["anchor_RT"].any(dim=1)
        anchor_BD = self._represented(layer_RTD[has_anchor_R], batch["anchor_RT"][has_anchor_R])
        return losses.cosines(anchor_BD, self._represented(layer_RTD, batch["turn_RT"]))

    def _represented(self, values_RTD: Tensor, mask_RT: Tensor) -> Tensor:
        """A text's representation [R, D]: affine, tanh, and the mean over its tokens.

        The mean comes first for hidden states, as in CLAPS (arXiv 2012.07280), and last for input
        embeddings, as in the community reproduction of C3L.
        """
        values_RTD = values_RTD.to(self.affine.weight.dtype)
        if self.config.contrast.representation == "hidden":
            return torch.tanh(self.affine(losses.mean_over(values_RTD, mask_RT)))
        return losses.mean_over(torch.tanh(self.affine(values_RTD)), mask_RT)

    def _align(
        self, batch: Batch, embedded_RTD: Tensor, nll_B: Tensor, align: Align
    ) -> dict[str, Tensor]:
        config = self.config.alignment
        temperature = self.log_temperature.exp().clamp(min=config.least_temperature)
        # What enters the language model: the adapter's features where the image's tokens stand.
        is_image_RT = batch["input_ids"] == self.image_token
        pairs = [
            (
                losses.mean_direction(losses.windowed(embedded_TD[image_T], config.windows)),
                losses.mean_direction(embedded_TD[text_T]),
            )
            for embedded_TD, image_T, text_T in zip(
                embedded_RTD.float(), is_image_RT, batch["turn_RT"], strict=True
            )
        ]
        image_BD, text_BD = (torch.stack(side) for side in zip(*pairs, strict=True))
        contrastive_B, own_B, others_B = align(image_BD, text_BD, batch["weight_B"], temperature)
        return {
            "loss": nll_B + config.weight * contrastive_B,
            "contrastive": contrastive_B,
            "nll": nll_B,
            "positive_similarity": own_B,
            "negative_similarity": others_B,
            "temperature": temperature.expand_as(nll_B),
        }

    def language_weights(self) -> Iterator[nn.Parameter]:
        """The weights that a token passes through in the language half, the embeddings left out."""
        model: Any = self.model
        yield from model.get_output_embeddings().parameters()
        embeddings = {id(weight) for weight in model.get_input_embeddings().parameters()}
        for weight in model.get_decoder().parameters():
            if id(weight) not in embeddings:
                yield weight

    def _width(self) -> int:
        embeddings = self.model.get_input_embeddings()  # type: ignore[operator]
        return int(embeddings.weight.shape[1])


def _positions(target_RT: Tensor) -> Tensor:
    """The positions whose logits predict some target: those before them."""
    at = target_RT.any(dim=0).nonzero().squeeze(1)
    return torch.arange(int(at[0]) - 1, int(at[-1]), device=target_RT.device)


def load(config: TrainConfig, dtype: torch.dtype, device: torch.device) -> Learner:
    """The learner of a run, on its device, with gradients where the config wants them.

    Raises:
        PreflightError: the model has no adapter of a known name, or no language half to tune.
    """
    from transformers import AutoModelForImageTextToText

    torch.manual_seed(config.optim.seed)
    # What learns is float32; what does not is held as it is computed. FSDP wants one type for all.
    one_type = config.tune == "full" or config.workers.sharding == "fsdp"
    model: Any = AutoModelForImageTextToText.from_pretrained(
        local(config.model.name), dtype=torch.float32 if one_type else dtype
    )
    model.requires_grad_(False)
    image_token = model.config.image_token_id
    if config.tune == "lora":
        model = _with_lora(model, config)
    elif config.tune == "full":
        model.get_decoder().requires_grad_(True)
        model.get_output_embeddings().requires_grad_(True)
    else:
        adapter(model, config.model.name).float().requires_grad_(True)
    if config.model.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return Learner(model, config, image_token).to(device)


def adapter(model: nn.Module, name: str) -> nn.Module:
    """The module between the vision tower and the language model.

    Raises:
        PreflightError: there is none of a known name.
    """
    for path, module in model.named_modules():
        if path.rpartition(".")[2] in ADAPTERS:
            return module
    raise PreflightError(
        f"--model.name {name}: no vision adapter was found in it; known names are "
        + ", ".join(ADAPTERS)
    )


def _with_lora(model: Any, config: TrainConfig) -> Any:
    """The model with LoRA on every linear layer of its language half, and nothing else learning."""
    from peft import LoraConfig, get_peft_model

    decoder = model.get_decoder()
    inside = {id(module) for module in decoder.modules()}
    targets = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) in inside
    ]
    if not targets:
        raise PreflightError(f"--model.name {config.model.name}: found no linear layers to tune")
    lora = LoraConfig(
        r=config.model.lora_rank,
        lora_alpha=config.model.lora_alpha,  # type: ignore[arg-type]  # fractions work too
        lora_dropout=config.model.lora_dropout,
        target_modules=targets,
    )
    return get_peft_model(model, lora)


def shared(learner: Learner, config: TrainConfig, dtype: torch.dtype) -> nn.Module:
    """The learner as its workers compute it together."""
    if config.workers.sharding == "fsdp":
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        policy = MixedPrecisionPolicy(
            param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        for block in _blocks(learner.model):
            fully_shard(block, mp_policy=policy)
        fully_shard(learner, mp_policy=policy)
        return learner
    if dist.is_initialized() and dist.get_world_size() > 1:
        return nn.parallel.DistributedDataParallel(learner)
    return learner


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The layers that FSDP gathers one at a time: members of lists, but not lists inside them."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _blocks(child)


def learning(learner: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and weights of what learns, in a fixed order."""
    return [(name, weight) for name, weight in learner.named_parameters() if weight.requires_grad]
