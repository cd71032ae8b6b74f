"""I2C: how much the image changes the model's belief in an answer (C3L, arXiv 2405.12752).

With p_t = P(a_t | image, question, a_<t) and r_t = P(a_t | question, a_<t) for the T tokens of an
answer, both teacher-forced under the frozen initial model, and z_t, y_t the logits behind them:

    image_logprob  (1/T) sum_t ln p_t        S(A|V), plain confidence: the rival to beat
    min_logprob    min_t ln p_t              confidence in the weakest token
    text_logprob   (1/T) sum_t ln r_t        S(A), the language prior alone
    gain           image_logprob - text_logprob; below 0 the image speaks against the answer
                   (visual information gain, arXiv 2602.17186, there with a blurred image)
    gain_exp       exp(gain): DICS's visual score without its weights by part of speech
    visual_ifd     image_logprob / text_logprob, the ratio of the two losses; above 1 the image
                   hurts (IFD, arXiv 2308.12032, with the image in the instruction's place)
    i2c            K1: sum_t p'_t ln(p'_t / r'_t), p' and r' normalised over the answer's positions
    i2c_logits     K1s: the same of softmax over positions of z and y (a community reproduction's)
    i2c_probs      K1p: the same of softmax over positions of p and r
    i2c_vocab      K2: (1/T) sum_t KL(P(.|image, question, a_<t) || P(.|question, a_<t))
    grounded_share share of t with ln p_t - ln r_t > ln 2: the image at least doubles the token
    flip_rate      share of t where a_t is the likeliest token with the image and not without

The paper's exact formula is not public. K1, K1s, K1p and K2 are readings of "KL divergence between
answer scores with and without the image"; the direction, with the image first, is a reading too,
and so is the threshold of grounded_share. gain, gain_exp and visual_ifd carry a sign; all KL forms
are unsigned, an image that hurts scores high too: pair them with the gain.

K1, K1s and K1p are 0 for every one-token answer and do not see a uniform shift: an image that makes
each token five times likelier has K1 = 0 and gain = ln 5. They grow with answer length (the ceiling
of K1 for a uniform r' is ln T), which confounds any ranking of answers of different kinds:
`jobs.select --within kind` ranks inside kinds and strata of length.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

GROUNDED_GAIN = float(np.log(2))  # nats


@dataclass(frozen=True, kw_only=True)
class Belief:
    """What the frozen model holds of an answer's T tokens, with the image and without: all [T].

    Attributes:
        image_logprobs: ln p_t, in nats.
        text_logprobs: ln r_t, in nats.
        image_logits: z_t.
        text_logits: y_t.
        image_first: whether a_t is the likeliest token with the image.
        text_first: the same without.
        token_kl: KL over the vocabulary, with the image first, in nats.
    """

    image_logprobs: Floats
    text_logprobs: Floats
    image_logits: Floats
    text_logits: Floats
    image_first: Bools
    text_first: Bools
    token_kl: Floats

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in vars(self).items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the answer's tokens differ in number: {lengths}")

    @property
    def token_gain(self) -> Floats:
        """ln p_t - ln r_t, [T]."""
        gain: Floats = self.image_logprobs - self.text_logprobs
        return gain


def scores(belief: Belief) -> dict[str, float | None]:
    """All scores of one answer by their names in schema.SCORES; none for an answer without tokens.

    visual_ifd is None where the text alone is certain of the answer: there is no loss to compare.
    """
    if not len(belief.image_logprobs):
        return {}
    with_image = float(np.mean(belief.image_logprobs, dtype=np.float64))
    without = float(np.mean(belief.text_logprobs, dtype=np.float64))
    flipped = belief.image_first & ~belief.text_first
    return {
        "image_logprob": with_image,
        "min_logprob": float(np.min(belief.image_logprobs)),
        "text_logprob": without,
        "gain": with_image - without,
        "gain_exp": float(np.exp(with_image - without)),
        "visual_ifd": with_image / without if without < 0 else None,
        "i2c": k1(belief.image_logprobs, belief.text_logprobs),
        "i2c_logits": k1(belief.image_logits, belief.text_logits),
        "i2c_probs": k1(np.exp(belief.image_logprobs), np.exp(belief.text_logprobs)),
        "i2c_vocab": float(np.mean(belief.token_kl, dtype=np.float64)),
        "grounded_share": float(np.mean(belief.token_gain > GROUNDED_GAIN)),
        "flip_rate": float(np.mean(flipped)),
    }


def k1(image: Floats, text: Floats) -> float:
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
