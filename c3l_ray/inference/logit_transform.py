"""What models do to their logits after the output head: some scale them, some cap them.

The scorer multiplies hidden states by the head itself, so it must do the same. A config declares
the numbers, under names that differ by family and mean a product in one and a quotient in another;
`scorer_checks` finds out by the model's own forward pass which of these transforms it applies.

Some classes of transformers put a text model into a vision-language model and leave out what the
text model's own class does to its logits: in 5.19 Cohere2 Vision's and Aya Vision's scale, the cap
of PaliGemma 2, the scale of a Granite in LLaVA-NeXT. vLLM, and training before, apply it. The
likeliest token stays the same without it, so nobody notices, but its probability does not.
`restore_logit_transform` applies it.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CAPS = ("final_logit_softcapping", "logits_soft_cap")
"""Fields of text configs that hold a cap: Gemma's and its kin's; RecurrentGemma's."""

SCALES = (
    "logit_scale",
    "logits_scaling",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_mup_width_multiplier",
)
"""Fields of text configs that hold a factor or a divisor: Cohere multiplies by `logit_scale`;
Granite divides by `logits_scaling`, and HyperCLOVA X multiplies by it; Muse Glimmer and Falcon-H1
multiply by the next two; Inkling divides by the last."""


@dataclass(frozen=True, kw_only=True)
class LogitTransform:
    """Logits are multiplied by `scale`; with a cap C they then become C * tanh(logits / C)."""

    scale: float = 1.0
    cap: float | None = None

    def apply(self, logits_NV: Tensor) -> Tensor:
        """The transformed logits, [N, V]; they take the place of the given ones in memory."""
        if self.scale != 1:
            logits_NV = logits_NV.mul_(self.scale)
        if self.cap is not None:
            logits_NV = logits_NV.div_(self.cap).tanh_().mul_(self.cap)
        return logits_NV

    def apply_to_copy(self, logits: Tensor) -> Tensor:
        """The transformed logits, of any shape; the given ones stay as they are."""
        if self.scale != 1:
            logits = logits * self.scale
        if self.cap is not None:
            logits = (logits / self.cap).tanh() * self.cap
        return logits


def declared_transforms(text_config: Any) -> list[LogitTransform]:
    """Every transform that a text config's numbers can mean, the one that changes nothing first."""
    scales = [1.0]
    for value in _read_numbers(text_config, SCALES):
        scales += [value, 1 / value]
    caps = [None, *_read_numbers(text_config, CAPS)]
    return [LogitTransform(scale=scale, cap=cap) for cap in caps for scale in scales]


def _read_numbers(text_config: Any, names: Iterable[str]) -> list[float]:
    """The numbers other than 0 that the config has under these names."""
    values = (getattr(text_config, name, None) for name in names)
    return [float(value) for value in values if isinstance(value, int | float) and value]


def restore_logit_transform(vlm: Any) -> None:
    """Makes a vision-language model transform its logits as its text model's own class does.

    Nothing changes where the text model has no class of its own, or its class or the model's does
    something that the config does not declare.

    Args:
        vlm: of transformers, as it was loaded.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    text_config = vlm.config.get_text_config()
    text_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(text_config), None)
    if len(declared_transforms(text_config)) == 1 or text_class is None:
        return
    expected = _probe_transform(text_class, text_config)
    if expected in (None, LogitTransform()):
        return
    if _probe_transform(type(vlm), vlm.config) == LogitTransform():
        vlm.forward = _transforming(vlm.forward, expected)


def _transforming(forward: Any, transform: LogitTransform) -> Any:
    @functools.wraps(forward)
    def forward_and_transform(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits = transform.apply_to_copy(output.logits)
        return output

    return forward_and_transform


class _StubBase(nn.Module):
    """In a model's place before its output head: returns given states, whatever the input."""

    def __init__(self, states_BTD: Tensor) -> None:
        super().__init__()
        self.states_BTD = states_BTD

    def forward(self, *_args: Any, **_kwargs: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPast

        class Output(BaseModelOutputWithPast):
            def __getattr__(self, _name: str) -> None:
                """None for what one family's outputs have and others' have not."""

        return Output(last_hidden_state=self.states_BTD)


@torch.no_grad()
def _probe_transform(model_class: Any, config: Any) -> LogitTransform | None:
    """The declared transform that a class applies to its logits, or None for another one.

    The class is tried without weights: its output head returns what the model before it does.
    """
    logits = torch.linspace(-40, 40, 41)
    try:
        with torch.device("meta"):
            model = model_class(config)
        setattr(model, model.base_model_prefix, _StubBase(logits[None, None]))
        model.set_output_embeddings(nn.Identity())
        own_logits = model(input_ids=torch.zeros(1, 1, dtype=torch.long)).logits.flatten()
    except Exception:  # whatever a class does with a model that is not what it expects
        return None
    for transform in declared_transforms(config.get_text_config()):
        if torch.allclose(transform.apply_to_copy(logits), own_logits, rtol=1e-5, atol=1e-5):
            return transform
    return None
