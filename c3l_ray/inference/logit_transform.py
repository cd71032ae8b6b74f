"""What models do to their logits after the output head: some scale them, some cap them.

The scorer multiplies hidden states by the head itself, so it must do the same. A config declares
the numbers, under names that differ by family and mean a product in one and a quotient in another;
`scorer_checks` finds out by the model's own forward pass which of these transforms it applies.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

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
