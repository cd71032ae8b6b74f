"""The objectives of a training, and what each of them needs.

What is learnt of a record is in `examples`, how its loss is computed in `model`.
"""

from dataclasses import dataclass
from typing import Literal

Name = Literal["c3l", "cgvlm", "vigc"]
Tune = Literal["lora", "full", "adapter"]

_COMPARED = ("contrastive", "nll", "positive_similarity", "negative_similarity", "temperature")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What the rest of the training asks of an objective.

    Attributes:
        tune: what learns by default.
        needs: what an image must have to be learnt from, in words.
        measures: what a forward measures of a share beside its `loss`, as sums over its images.
        mixes: draws single turns from a mixture of sets, in place of whole records in their order.
    """

    tune: Tune
    needs: str
    measures: tuple[str, ...]
    mixes: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """All that a forward returns; `images` counts what was summed over."""
        return ("loss", *self.measures, "images")


OBJECTIVES: dict[Name, Objective] = {
    "c3l": Objective(
        tune="lora",
        needs="a positive turn by the score of --positive-by, and a negative one",
        measures=_COMPARED,
    ),
    "cgvlm": Objective(tune="adapter", needs="a caption, or a detail turn", measures=_COMPARED),
    # The paper trains its Q-Former, which reads the prompt, and the projection behind it, under a
    # frozen language model. LLaVA and its kin have no adapter that reads text, so that what the
    # Q-Former learns there has its place in the language half: LoRA on it is our reading.
    "vigc": Objective(
        tune="lora",
        needs="a turn that is ok, of a kind that has instructions or made elsewhere",
        measures=("nll",),
        mixes=True,
    ),
}
