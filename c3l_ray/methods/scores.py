"""The scores of a turn: their names, which end is better, what they are and where they come from.

The one table that the schema, the flags, rankings, evaluations and the page on scores read. How the
values are computed stands in `i2c`; `clip` is computed in `inference.clip_scorer`.

For an answer of T tokens a_1 ... a_T, p_t is the probability of a_t given the image, the question
and the tokens before it, r_t the same without the image, both teacher-forced under the frozen
scoring model; z_t and y_t are the logits behind them. q_t is as p_t after the prompt that the turn
was written after: the instruction, then the question as the reply's beginning. Logarithms are
natural: values are in nats.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

RankedBy = Literal[
    "image_logprob",
    "min_logprob",
    "text_logprob",
    "posed_logprob",
    "gain",
    "gain_exp",
    "visual_ifd",
    "i2c",
    "i2c_logits",
    "i2c_probs",
    "i2c_vocab",
    "grounded_share",
    "flip_rate",
    "grounding",
    "clip",
    "random",
]
"""What turns can be ranked by: the names in SCORES, and a random control."""


@dataclass(frozen=True, kw_only=True)
class ScoreDefinition:
    """One score.

    Attributes:
        name: of the column in `scores` and `draft_scores`, and of the value of --by.
        definition: a formula or a sentence.
        caveat: what to mind when ranking by it.
        source: a paper, or that it is our reading.
        higher_is_better: whether a higher value speaks for the answer.
    """

    name: str
    definition: str
    caveat: str
    source: str
    higher_is_better: bool = True


SCORES = (
    ScoreDefinition(
        name="image_logprob",
        definition="mean of ln p_t",
        caveat="plain confidence: the strongest simple rival of any other score",
        source="S(A|V) of C3L, arXiv 2405.12752",
    ),
    ScoreDefinition(
        name="min_logprob",
        definition="lowest ln p_t",
        caveat="confidence in the weakest token; falls with length",
        source="common in work on uncertainty",
    ),
    ScoreDefinition(
        name="text_logprob",
        definition="mean of ln r_t",
        caveat="what the question alone gives away, whatever the image shows",
        source="S(A) of C3L, arXiv 2405.12752",
    ),
    ScoreDefinition(
        name="posed_logprob",
        definition="mean of ln q_t over the answer's tokens and its end",
        caveat="null for turns that were made elsewhere: nothing asked for them",
        source="ours",
    ),
    ScoreDefinition(
        name="gain",
        definition="mean of ln p_t - ln r_t",
        caveat="below 0 the image speaks against the answer",
        source="visual information gain, arXiv 2602.17186 (there with a blurred image)",
    ),
    ScoreDefinition(
        name="gain_exp",
        definition="exp(gain)",
        caveat="ranks as gain does; below 1 the image speaks against the answer",
        source="the visual score of DICS without its weights by part of speech",
    ),
    ScoreDefinition(
        name="visual_ifd",
        definition="image_logprob / text_logprob, the ratio of the two losses",
        caveat="lower is better; above 1 the image hurts",
        source="IFD, arXiv 2308.12032, with the image in the instruction's place",
        higher_is_better=False,
    ),
    ScoreDefinition(
        name="i2c",
        definition="K1: KL of p and r, each normalised over the answer's positions",
        caveat="0 for one-token answers; blind to a uniform shift; unsigned; grows with length",
        source="a reading of I2C in C3L, arXiv 2405.12752, whose formula is not public",
    ),
    ScoreDefinition(
        name="i2c_logits",
        definition="K1s: KL of the softmaxes of z and y over the answer's positions",
        caveat="as i2c",
        source="a reading of I2C, as a community reproduction of C3L has it",
    ),
    ScoreDefinition(
        name="i2c_probs",
        definition="K1p: KL of the softmaxes of p and r over the answer's positions",
        caveat="as i2c",
        source="a reading of I2C in C3L, arXiv 2405.12752",
    ),
    ScoreDefinition(
        name="i2c_vocab",
        definition="K2: mean over tokens of the KL over the vocabulary, image side first",
        caveat="unsigned: an image that hurts scores high too",
        source="a reading of I2C in C3L, arXiv 2405.12752",
    ),
    ScoreDefinition(
        name="grounded_share",
        definition="share of tokens with ln p_t - ln r_t > ln 2",
        caveat="the threshold, a token at least twice as likely, is our reading",
        source="ours",
    ),
    ScoreDefinition(
        name="flip_rate",
        definition="share of tokens that are the likeliest with the image and not without",
        caveat="0 where the question alone gives the answer away",
        source="ours",
    ),
    ScoreDefinition(
        name="grounding",
        definition="0.75 ln(-text_logprob) - ln(-posed_logprob - image_logprob)",
        caveat="0.75 was chosen on scenes; where no prompt posed, image_logprob stands for posed",
        source="ours: visual_ifd, tempered, with the posing prompt as a second one",
    ),
    ScoreDefinition(
        name="clip",
        definition="cosine of the image and the turn's text under open_clip",
        caveat="most CLIP models read the first 77 tokens only",
        source="CLIPScore, arXiv 2104.08718, without its rescaling",
    ),
)

SCORE_NAMES = tuple(score.name for score in SCORES)
LOWER_IS_BETTER = frozenset(score.name for score in SCORES if not score.higher_is_better)

BEST_SCORE: RankedBy = "grounding"
"""What runs show their best and worst turns by, and what they advise to select by: within a kind it
told true turns from false ones best in most of the worlds of `make evidence`."""


def value_of(scores: Mapping[str, Any] | None, name: str) -> float | None:
    """A score as a value that is higher for a better answer, or None where there is none.

    Args:
        scores: of an answer.
        name: of the score.
    """
    score = (scores or {}).get(name)
    if score is None or not math.isfinite(score):
        return None
    return -float(score) if name in LOWER_IS_BETTER else float(score)


def columns_of_answers(name: RankedBy) -> tuple[RankedBy, ...]:
    """The scores that `values_of_answers` reads for one of them."""
    return (name, "posed_logprob") if name == "grounding" else (name,)


def values_of_answers(scores: Sequence[Mapping[str, Any] | None], name: str) -> list[float | None]:
    """A score of several answers to one question, as values of one measure.

    `grounding` of an answer without a `posed_logprob` has `image_logprob` in its place, which is
    higher or lower for a reason of its own. Beside answers that have one it is no value.

    Args:
        scores: of the answers.
        name: of the score.
    """
    values = [value_of(of_answer, name) for of_answer in scores]
    if name != "grounding":
        return values
    is_posed = [value_of(of_answer, "posed_logprob") is not None for of_answer in scores]
    if not any(is_posed):
        return values
    return [value if posed else None for value, posed in zip(values, is_posed, strict=True)]
