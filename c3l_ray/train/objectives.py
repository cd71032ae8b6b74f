"""The objectives of a training: their settings, and what each asks of the rest of the training.

Which texts a record is learnt from is in `reading.examples`, how their loss is computed in
`learning.learner`. Sources in brackets: [C-com] a community reproduction of C3L, whose own values
are not public; [CG] our reading of CG-VLM; [L] the LLaVA-1.5 recipes.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from c3l_ray.methods.answers import AnswerRules
from c3l_ray.ranges import Conflicts, Range

ObjectiveName = Literal["c3l", "cgvlm", "vigc", "conversations", "answers"]
DatasetContent = Literal["turns", "captions"]
TuneMode = Literal["lora", "full", "adapter"]
PairLoss = Literal["dpo", "ipo"]

_CONTRAST_PARTS = (
    "contrastive",
    "nll",
    "positive_similarity",
    "negative_similarity",
    "temperature",
)
REFERENCE_PARTS = ("pair", "margin_gain")
READABLE = "held_out_readable"  # the measured share of replies that can be read


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The objective c3l: pull an image's positive turn to the anchor, push its negatives away."""

    # Likelihoods act on what the model generates and need no affine layer; our reading, after arXiv
    # 2210.00045.
    similarity: Literal["cosine", "likelihood"] = "cosine"
    """Contrast a turn's cosine with the anchor [C-com], or its own mean log-probability."""
    # The instruction with the image in context, or the image's caption, else its best detail turn.
    anchor: Literal["instruction", "description"] = "instruction"
    """Compare turns with the instruction [C-com, later], or with a description [C-com, early]."""
    # Hidden states as in CLAPS (arXiv 2012.07280). Input embeddings can teach nothing but the
    # affine layer, unless they are tuned.
    representation: Literal["hidden", "embedding"] = "hidden"
    """Represent a text by its mean last hidden state, or by its mean input embedding [C-com]."""
    temperature: Annotated[float, Range(above=0)] = 0.2
    """Temperature of the softmax over similarities [C-com]."""
    nll_weight: Annotated[float, Range(min=0)] = 1.0
    """Weight (beta) of the positive reply's negative log-likelihood; our reading."""
    in_batch_negatives: bool = False
    """Take the turns of the other images in a worker's micro-batch as negatives too."""
    token_weights: Literal["none", "vig"] = "none"
    """Learn every token, or (vig) of an answer those with enough stored gain (arXiv 2602.17186)."""
    token_threshold: float = 0.0
    """Gain, in nats, that a token must exceed to be learnt with token weights vig; our reading."""

    def conflicts(self) -> Conflicts:
        if self.similarity == "likelihood" and self.anchor == "description":
            yield (
                "anchor",
                "has no effect where the similarity is likelihood; drop it, or use cosine",
            )
        if self.similarity == "likelihood" and self.in_batch_negatives:
            yield (
                "in_batch_negatives",
                "a turn's likelihood is that under its own image; drop the flag, or use the "
                "similarity cosine, which also compares turns of other images",
            )


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """The objective cgvlm: align the adapter's patch features with the caption's tokens."""

    weight: Annotated[float, Range(min=0)] = 1.0
    """Weight (lambda) of the contrastive loss beside the captioning loss [CG]."""
    # A batch in several micro-batches is computed forward twice, so that all its captions are
    # negatives; "micro-batch" takes those that all workers compute at once.
    negatives: Literal["batch", "micro-batch"] = "batch"
    """Take the other captions of the batch [CG], or of the workers' micro-batches, as negatives."""
    windows: Annotated[int, Range(min=1)] = 36
    """Windows that an image's patches are averaged over before they are compared [CG]."""
    temperature: Annotated[float, Range(above=0)] = 0.07
    """Initial value of the temperature, which is learnt [CG]."""
    min_temperature: Annotated[float, Range(above=0)] = 0.01
    """Floor of the learnt temperature, which small averaged cosines would pull to 0 [CG]."""

    def conflicts(self) -> Conflicts:
        if self.min_temperature > self.temperature:
            yield "min_temperature", f"must be at most the initial temperature {self.temperature}"


# The likelihood beside DPO is as in Iterative RPO (arXiv 2404.19733). Defaults are what
# was best on scenes: the likelihood alone is safe, with the pair some seeds lost their language.
@dataclass(frozen=True, kw_only=True)
class Answers(AnswerRules):
    """The objective answers: learn the best answer to a question, perhaps against the worst."""

    pair_weight: Annotated[float, Range(min=0)] = 0.0
    """Weight of the loss on best against worst, beside the likelihood of the best; needs LoRA."""
    pair_loss: PairLoss = "dpo"
    """Loss on best against worst: DPO (arXiv 2305.18290) or IPO (arXiv 2310.12036)."""
    beta: Annotated[float, Range(above=0)] = 0.3
    """Strength of the pair's loss: of DPO the slope, of IPO one half over the margin it aims at."""
    anchor: Annotated[float, Range(min=0)] = 0.0
    """Weight of a loss on a best answer less likely than before (mDPO, arXiv 2406.11839)."""
    min_readable: Annotated[float, Range(min=0, max=1)] = 0.9
    """Stop below this share of the start's readable replies to held-out images; 0 never stops."""
    readable_replies: Annotated[int, Range(min=0)] = 64
    """Replies that are sampled to measure that share, at evaluations and checkpoints; 0: none."""

    @property
    def needs_reference(self) -> bool:
        """Whether the loss compares with the model that training began with."""
        return self.pair_weight > 0 or self.anchor > 0

    def conflicts(self) -> Conflicts:
        yield from super().conflicts()
        if self.pair_loss == "ipo" and not self.pair_weight:
            yield "pair_loss", "has no effect without a pair weight; add one, such as 1"


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec:
    """What an objective asks of the rest of the training.

    Attributes:
        tune_mode: which weights learn by default.
        requirement: what an image must have to be learnt from, in words, with places for the flags
            labels_by and answers_by.
        loss_parts: what is measured of a micro-batch beside its `loss`, as sums over its images.
        dataset_content: what it learns of datasets as they lie, without a run before it; None where
            it needs the scores of a run.
        settings: fields of the training's config that define what this objective learns, and that
            no other one looks at.
        draws_single_turns: it learns turns drawn from sets, in place of whole records in their
            order.
    """

    tune_mode: TuneMode
    requirement: str
    loss_parts: tuple[str, ...]
    settings: tuple[str, ...] = ()
    dataset_content: DatasetContent | None = None
    draws_single_turns: bool = False


OBJECTIVES: dict[ObjectiveName, ObjectiveSpec] = {
    "c3l": ObjectiveSpec(
        tune_mode="lora",
        requirement="a positive turn by the score of {labels_by}, and a negative one",
        loss_parts=_CONTRAST_PARTS,
        settings=("labels", "contrast"),
    ),
    "cgvlm": ObjectiveSpec(
        tune_mode="adapter",
        requirement="a caption, a detail turn, or one turn made elsewhere and no other",
        dataset_content="captions",
        loss_parts=_CONTRAST_PARTS,
        settings=("alignment",),
    ),
    # The paper trains its Q-Former, which reads the prompt, and the projection behind it, under a
    # frozen language model. LLaVA and its kin have no adapter that reads text, so that what the
    # Q-Former learns there has its place in the language half: LoRA on it is our reading.
    "vigc": ObjectiveSpec(
        tune_mode="lora",
        requirement="a turn that is ok, of a kind that has instructions or made elsewhere",
        loss_parts=("nll",),
        settings=("mixture",),
        dataset_content="turns",
        draws_single_turns=True,
    ),
    # LLaVA's second stage [L]. It trains the whole language model and the projection: tune full
    # trains the former.
    "conversations": ObjectiveSpec(
        tune_mode="lora",
        requirement="a turn that is ok, and at most one system message",
        loss_parts=("nll",),
        dataset_content="turns",
    ),
    # Two answers to one question differ in nothing but what they say of the image.
    "answers": ObjectiveSpec(
        tune_mode="lora",
        requirement="a turn with several different answers that have the score of {answers_by}",
        loss_parts=("nll", "margin", "pair_accuracy", *REFERENCE_PARTS),
        settings=("answers",),
        draws_single_turns=True,
    ),
}
