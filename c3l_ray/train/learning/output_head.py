"""How likely tokens are by the hidden states that predict them: logits only where there is a loss.

A model's own forward pass multiplies whole columns of tokens by its output head. Of a micro-batch
of c3l most of those logits have no loss, and in float32 they weigh more than all else. Here the
head is applied to the tokens that count, a chunk at a time, and a chunk's logits are computed again
in the backward pass.

Shapes: B rows, L places of a row, N tokens that have a loss, D the model's width, V its vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from c3l_ray.inference.logit_transform import LogitTransform, declared_transforms

MAX_LOGITS = 2**25  # at once: 128 MiB in float32
NUM_PROVED_TOKENS = 64

TakeStates = Callable[[Tensor], Tensor]
"""From the hidden states [B, L, D] those that predict the tokens with a loss, [N, D]."""


class OutputHead:
    """The output head of a vision-language model, and what the model does to its logits.

    Args:
        vlm: the model of transformers, without what peft puts around it.

    Attributes:
        transform: of the logits; None where none that the config declares gives the model's own,
            and before `find_transform`.
    """

    def __init__(self, vlm: Any) -> None:
        self.vlm = vlm
        self.transform: LogitTransform | None = None
        self.is_tried = False

    @torch.no_grad()
    def find_transform(self, text_inputs: dict[str, Tensor]) -> None:
        """Finds the declared transform by the model's own forward pass.

        Args:
            text_inputs: of a text without an image.
        """
        self.is_tried = True
        head_logits: list[Tensor] = []
        hook = self.vlm.get_output_embeddings().register_forward_hook(
            lambda _head, _inputs, output: head_logits.append(output.float())
        )
        device = text_inputs["input_ids"].device
        try:
            # The step's random numbers, such as the dropout's, are drawn as without this.
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                own_BTV = self.vlm(**text_inputs, use_cache=False).logits.float()
        finally:
            hook.remove()
        if len(head_logits) != 1 or head_logits[0].shape != own_BTV.shape:
            return

        def differences(transform: LogitTransform) -> Tensor:
            return (transform.apply_to_copy(head_logits[0]) - own_BTV).abs()

        transforms = declared_transforms(self.vlm.config.get_text_config())
        # Rounding has no direction and a wrong transform has.
        closest = min(transforms, key=lambda transform: float(differences(transform).mean()))
        rounding = 2 * torch.finfo(self.vlm.dtype).eps * float(own_BTV.abs().max())
        if float(differences(closest).max()) <= max(1e-3, rounding):
            self.transform = closest

    def compute(
        self, inputs: dict[str, Any], take: TakeStates, ids_N: Tensor
    ) -> tuple[Any, Tensor]:
        """The model's output, of which `last_hidden_state` is [B, L, D], and -ln p of tokens [N].

        Args:
            inputs: of the model's forward pass.
            take: the states that predict the tokens.
            ids_N: the tokens.
        """
        if self.transform is not None:
            output = self.vlm.base_model(**inputs, use_cache=False)
            return output, self.compute_nll(take(output.last_hidden_state), ids_N)
        states: list[Tensor] = []

        def keep_states_with_loss(_head: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
            states.append(arguments[0])
            return (take(arguments[0]).unsqueeze(0),)

        hook = self.vlm.get_output_embeddings().register_forward_pre_hook(keep_states_with_loss)
        try:
            output = self.vlm(**inputs, use_cache=False)
        finally:
            hook.remove()
        output.last_hidden_state = states[0]
        return output, F.cross_entropy(output.logits[0].float(), ids_N, reduction="none")

    def compute_nll(self, hidden_ND: Tensor, ids_N: Tensor) -> Tensor:
        """-ln p of each token, [N], from the states that predict them."""
        tokens_at_once = max(1, MAX_LOGITS // len(self.vlm.get_output_embeddings().weight))
        chunks = zip(hidden_ND.split(tokens_at_once), ids_N.split(tokens_at_once), strict=True)
        return torch.cat(
            [
                checkpoint(
                    self._compute_chunk, *chunk, use_reentrant=False, preserve_rng_state=False
                )
                for chunk in chunks
            ]
        )

    def _compute_chunk(self, hidden_ND: Tensor, ids_N: Tensor) -> Tensor:
        assert self.transform is not None
        logits_NV = self.vlm.get_output_embeddings()(hidden_ND).float()
        return F.cross_entropy(self.transform.apply_to_copy(logits_NV), ids_N, reduction="none")
