"""I2C: how much the image changes the model's belief in an answer (C3L, arXiv 2405.12752).

With p_t = P(a_t | image, question, a_<t) and r_t = P(a_t | question, a_<t) for the T tokens of an
answer, both teacher-forced under the frozen initial model:

    image_logprob  (1/T) sum_t ln p_t        S(A|V), plain confidence
    text_logprob   (1/T) sum_t ln r_t        S(A), the language prior alone
    gain           image_logprob - text_logprob; the only signed one: below 0 the image speaks
                   against the answer (visual information gain, arXiv 2602.17186)
    i2c            K1: sum_t p'_t ln(p'_t / r'_t), p' and r' normalised over the answer's positions
    i2c_vocab      K2: (1/T) sum_t KL(P(.|image, question, a_<t) || P(.|question, a_<t))

The paper's exact formula is not public. K1 and K2 are two readings of "KL divergence between answer
scores with and without the image"; the direction, with the image first, is a reading too.

K1 is 0 for every one-token answer and does not see a uniform shift: an image that makes each token
five times likelier has K1 = 0 and gain = ln 5. Both KL forms are unsigned: pair them with the gain.
K1 grows with answer length (its ceiling for a uniform r' is ln T).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def k1(image_logprobs: Floats, text_logprobs: Floats) -> float:
    """K1 from the log-probabilities [T] of the answer's tokens with and without the image.

    Probabilities are normalised over the T positions, which is a softmax of their logarithms, so
    that long and unlikely answers cannot underflow. A position that the image rules out altogether
    (ln p = -inf) adds nothing; one that only the text rules out makes the divergence infinite.
    """
    p = _log_normalised(image_logprobs)
    r = _log_normalised(text_logprobs)
    weight = np.exp(p)
    possible = weight > 0
    total = float(np.sum(weight[possible] * (p[possible] - r[possible])))
    return max(total, 0.0)  # rounding can take a KL of equal distributions just under 0


def scores(
    image_logprobs: Floats, text_logprobs: Floats, token_kl: Floats
) -> dict[str, float] | None:
    """All scores of one answer, or None for an answer without tokens.

    Args:
        image_logprobs: ln p_t, [T], in nats.
        text_logprobs: ln r_t, [T], in nats.
        token_kl: KL over the vocabulary at each position, [T], in nats.

    Raises:
        ValueError: the three are not equally long.
    """
    if not len(image_logprobs) == len(text_logprobs) == len(token_kl):
        lengths = f"{len(image_logprobs)}, {len(text_logprobs)} and {len(token_kl)}"
        raise ValueError(f"the answer's tokens differ in number: {lengths}")
    if len(image_logprobs) == 0:
        return None
    with_image = float(np.mean(image_logprobs, dtype=np.float64))
    without = float(np.mean(text_logprobs, dtype=np.float64))
    return {
        "image_logprob": with_image,
        "text_logprob": without,
        "gain": with_image - without,
        "i2c": k1(image_logprobs, text_logprobs),
        "i2c_vocab": float(np.mean(token_kl, dtype=np.float64)),
    }


def _log_normalised(logprobs: Floats) -> Floats:
    """ln(q_t / sum q) for q = exp(logprobs)."""
    values = np.asarray(logprobs, dtype=np.float64)
    highest = values.max()
    if highest == -np.inf:  # nothing was possible anywhere: all positions alike
        return np.full_like(values, -np.log(len(values)))
    normalised: Floats = values - highest - np.log(np.sum(np.exp(values - highest)))
    return normalised
