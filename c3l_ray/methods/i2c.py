"""I2C: how much the image changes the model's evidence in an answer (C3L, arXiv 2405.12752).

What each score is stands in `scores`; here they are computed. The paper's exact formula is not
public: K1, K1s, K1p and K2 are readings of "KL divergence between answer scores with and without
the image", and the direction, with the image first, is a reading too. gain, gain_exp and visual_ifd
carry a sign; all KL forms are unsigned, so an image that hurts scores high too: pair them with the
gain.

K1, K1s and K1p are 0 for every one-token answer and do not see a uniform shift: an image that makes
each token five times likelier has K1 = 0 and gain = ln 5. They grow with answer length (the ceiling
of K1 for a uniform r' is ln T), which confounds any ranking of answers of different kinds:
`jobs.select --within kind` ranks inside kinds, and inside strata of length if asked.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

GROUNDED_GAIN = float(np.log(2))  # nats
TEXT_LOSS_WEIGHT = 0.75  # in the score `grounding`


@dataclass(frozen=True, kw_only=True)
class AnswerEvidence:
    """What the scoring model says of an answer's T tokens, with the image and without.

    All are [T] but `posed_logprobs`.

    p_t and r_t are the probabilities of the token a_t with the image and without it.

    Attributes:
        image_logprobs: ln p_t, in nats.
        text_logprobs: ln r_t, in nats.
        image_logits: z_t, the logits of a_t behind p_t.
        text_logits: y_t, those behind r_t.
        top1_with_image: whether a_t is the likeliest token with the image.
        top1_without_image: the same without.
        token_kl: KL over the vocabulary, with the image first, in nats.
        posed_logprobs: ln q_t, of the answer's tokens and its end as a reply writes them, in nats,
            [S]; None where no instruction asked for the turn.
    """

    image_logprobs: Floats
    text_logprobs: Floats
    image_logits: Floats
    text_logits: Floats
    top1_with_image: Bools
    top1_without_image: Bools
    token_kl: Floats
    posed_logprobs: Floats | None = None

    def __post_init__(self) -> None:
        lengths = {
            name: len(values) for name, values in vars(self).items() if name != "posed_logprobs"
        }
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the answer's tokens differ in number: {lengths}")

    @property
    def token_gains(self) -> Floats:
        """ln p_t - ln r_t, [T]."""
        gain: Floats = self.image_logprobs - self.text_logprobs
        return gain


def compute_scores(evidence: AnswerEvidence) -> dict[str, float | None]:
    """All scores of one answer but `clip`, by name; none for an answer without tokens.

    visual_ifd and grounding are None where the text alone, or the image, is certain of the answer:
    there is no loss to compare.
    """
    if not len(evidence.image_logprobs):
        return {}
    image_logprob = float(np.mean(evidence.image_logprobs, dtype=np.float64))
    text_logprob = float(np.mean(evidence.text_logprobs, dtype=np.float64))
    posed_logprob = None
    if evidence.posed_logprobs is not None:
        posed_logprob = float(np.mean(evidence.posed_logprobs, dtype=np.float64))
    is_flipped = evidence.top1_with_image & ~evidence.top1_without_image
    return {
        "image_logprob": image_logprob,
        "min_logprob": float(np.min(evidence.image_logprobs)),
        "text_logprob": text_logprob,
        "posed_logprob": posed_logprob,
        "gain": image_logprob - text_logprob,
        "gain_exp": float(np.exp(image_logprob - text_logprob)),
        "visual_ifd": image_logprob / text_logprob if text_logprob < 0 else None,
        "i2c": kl_over_positions(evidence.image_logprobs, evidence.text_logprobs),
        "i2c_logits": kl_over_positions(evidence.image_logits, evidence.text_logits),
        "i2c_probs": kl_over_positions(
            np.exp(evidence.image_logprobs), np.exp(evidence.text_logprobs)
        ),
        "i2c_vocab": float(np.mean(evidence.token_kl, dtype=np.float64)),
        "grounded_share": float(np.mean(evidence.token_gains > GROUNDED_GAIN)),
        "flip_rate": float(np.mean(is_flipped)),
        "grounding": compare_losses(image_logprob, text_logprob, posed_logprob),
    }


def compare_losses(
    image_logprob: float, text_logprob: float, posed_logprob: float | None
) -> float | None:
    """The score `grounding`; None where a loss is 0, which has no logarithm."""
    posed_logprob = image_logprob if posed_logprob is None else posed_logprob
    image_loss, text_loss = -posed_logprob - image_logprob, -text_logprob
    if image_loss <= 0 or text_loss <= 0:
        return None
    return float(TEXT_LOSS_WEIGHT * np.log(text_loss) - np.log(image_loss))


def kl_over_positions(image: Floats, text: Floats) -> float:
    """KL(softmax(image) || softmax(text)) over the positions, in nats: K1 for ln p and ln r.

    The softmax of logarithms is normalisation, done so that long and unlikely answers cannot
    underflow. A position that the image rules out altogether (-inf) adds nothing; one that only the
    text rules out makes the divergence infinite.
    """
    p = _log_softmax(image)
    r = _log_softmax(text)
    weight = np.exp(p)
    possible = weight > 0
    total = float(np.sum(weight[possible] * (p[possible] - r[possible])))
    return max(total, 0.0)  # rounding can take a KL of equal distributions just under 0


def _log_softmax(of_positions: Floats) -> Floats:
    values = np.asarray(of_positions, dtype=np.float64)
    highest = values.max()
    if highest == -np.inf:  # nothing was possible anywhere: all positions alike
        return np.full_like(values, -np.log(len(values)))
    normalised: Floats = values - highest - np.log(np.sum(np.exp(values - highest)))
    return normalised
