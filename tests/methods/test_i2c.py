"""I2C against a five-line reference, and the properties that its users must know."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3l_ray.methods import i2c

P = np.array([0.9, 0.8, 0.7, 0.95, 0.6])
R = np.array([0.9, 0.8, 0.1, 0.95, 0.05])


def softmax(x: i2c.Floats) -> i2c.Floats:
    return np.exp(x) / np.exp(x).sum()


def reference_k1(p: i2c.Floats, r: i2c.Floats) -> float:
    p = p / p.sum()
    r = r / r.sum()
    return float((p * np.log(p / r)).sum())


def make_evidence(image: i2c.Floats, text: i2c.Floats, **fields: Any) -> i2c.AnswerEvidence:
    """From log-probabilities; no token is the likeliest, and logits are 0, unless given."""
    none, zeros = np.zeros(len(image), bool), np.zeros(len(image))
    defaults = {
        "image_logits": zeros,
        "text_logits": zeros,
        "top1_with_image": none,
        "top1_without_image": none,
        "token_kl": zeros,
    }
    return i2c.AnswerEvidence(image_logprobs=image, text_logprobs=text, **{**defaults, **fields})


def compute_scores(p: i2c.Floats, r: i2c.Floats, **fields: Any) -> dict[str, Any]:
    return i2c.compute_scores(make_evidence(np.log(p), np.log(r), **fields))


@given(
    st.lists(
        st.tuples(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0)),
        min_size=1,
        max_size=200,
    )
)
def test_k1_is_the_reference(pairs: list[tuple[float, float]]) -> None:
    p, r = np.array(pairs).T
    assert i2c.kl_over_positions(np.log(p), np.log(r)) == pytest.approx(
        reference_k1(p, r), abs=1e-9
    )


def test_the_worked_toy() -> None:
    assert i2c.kl_over_positions(np.log(P), np.log(R)) == pytest.approx(0.378, abs=5e-4)
    assert compute_scores(P, R)["gain"] == pytest.approx(0.886, abs=5e-4)


def test_swapped_sides_give_another_divergence_and_the_opposite_gain() -> None:
    assert i2c.kl_over_positions(np.log(R), np.log(P)) == pytest.approx(0.230, abs=5e-4)
    assert compute_scores(R, P)["gain"] == pytest.approx(-0.886, abs=5e-4)
    assert compute_scores(R, P)["i2c"] > 0  # unsigned: an image that hurts scores high too


@pytest.mark.parametrize(("p", "r"), [(0.9, 0.1), (0.1, 0.9), (1.0, 1e-300)])
def test_k1_is_zero_for_one_token_and_the_gain_is_not(p: float, r: float) -> None:
    scores = compute_scores(np.array([p]), np.array([r]))
    assert scores["i2c"] == 0
    assert scores["gain"] == pytest.approx(math.log(p / r))


def test_k1_does_not_see_a_uniform_shift() -> None:
    scores = compute_scores(P, P / 5)
    assert scores["i2c"] == pytest.approx(0, abs=1e-12)
    assert scores["gain"] == pytest.approx(math.log(5))


def test_k1_is_a_softmax_of_the_log_probabilities_over_positions() -> None:
    p, r = softmax(np.log(P)), softmax(np.log(R))
    expected = float((p * np.log(p / r)).sum())
    assert i2c.kl_over_positions(np.log(P), np.log(R)) == pytest.approx(expected)


def test_the_variants_take_the_softmax_of_probabilities_and_of_logits() -> None:
    z, y = np.array([3.0, 1.0, 2.0, 0.5, 4.0]), np.array([3.0, 1.0, 0.0, 0.5, 1.0])
    scores = compute_scores(P, R, image_logits=z, text_logits=y)
    expected_probs = float((softmax(P) * np.log(softmax(P) / softmax(R))).sum())
    expected_logits = float((softmax(z) * np.log(softmax(z) / softmax(y))).sum())
    assert scores["i2c_probs"] == pytest.approx(expected_probs)
    assert scores["i2c_probs"] == pytest.approx(0.035, abs=5e-4)  # ten times flatter than K1
    assert scores["i2c_logits"] == pytest.approx(expected_logits)


def test_the_ratio_of_the_losses_and_the_exp_of_their_difference() -> None:
    scores = compute_scores(P, R)
    assert scores["gain_exp"] == pytest.approx(math.exp(0.886), abs=2e-3)
    assert scores["visual_ifd"] == pytest.approx(np.log(P).mean() / np.log(R).mean())
    assert compute_scores(R, P)["visual_ifd"] > 1  # the image hurts
    assert compute_scores(P, np.ones(5))["visual_ifd"] is None  # the text alone was certain


def test_grounding_compares_the_losses_with_the_image_and_without() -> None:
    image, text, posed = np.log(P), np.log(R), np.array([-0.5, -0.1, -1.5])
    text_part = 0.75 * math.log(-text.mean())
    evidence = replace(make_evidence(image, text), posed_logprobs=posed)
    scores = i2c.compute_scores(evidence)
    assert scores["posed_logprob"] == pytest.approx(-0.7)
    assert scores["grounding"] == pytest.approx(text_part - math.log(0.7 - image.mean()))
    bare = compute_scores(P, R)
    assert bare["posed_logprob"] is None
    assert bare["grounding"] == pytest.approx(text_part - math.log(-2 * image.mean()))


@pytest.mark.parametrize(("image", "text"), [(np.ones(5), R), (P, np.ones(5))])
def test_grounding_is_none_where_a_side_is_certain(image: i2c.Floats, text: i2c.Floats) -> None:
    assert compute_scores(image, text)["grounding"] is None


def test_the_weakest_token_the_grounded_share_and_the_flips() -> None:
    scores = compute_scores(
        P,
        R,
        top1_with_image=np.array([True, True, True, False, True]),
        top1_without_image=np.array([True, True, False, False, False]),
    )
    assert scores["min_logprob"] == pytest.approx(math.log(0.6))
    assert scores["grounded_share"] == pytest.approx(2 / 5)  # .7 against .1 and .6 against .05
    assert scores["flip_rate"] == pytest.approx(2 / 5)


def test_the_ceiling_for_a_uniform_text_side_is_ln_t() -> None:
    peaked = np.array([0.0] + [-60.0] * 99)
    assert i2c.kl_over_positions(peaked, np.full(100, -5.0)) == pytest.approx(math.log(100))


def test_long_unlikely_answers_do_not_underflow() -> None:
    logprobs = np.full(500, -800.0)  # exp of it is 0 in float64
    shifted = logprobs - np.arange(500) / 100
    scores = i2c.compute_scores(make_evidence(logprobs, shifted))
    assert scores["i2c"] and math.isfinite(scores["i2c"])


def test_equal_sides_are_zero_and_never_below() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        logprobs = np.log(rng.uniform(0.001, 1, 50)).astype(np.float32)
        assert i2c.kl_over_positions(logprobs, logprobs.astype(np.float64)) >= 0


def test_impossible_tokens_do_not_make_nan() -> None:
    nothing = np.array([-np.inf, -1.0])
    assert math.isfinite(i2c.kl_over_positions(nothing, np.array([-1.0, -1.0])))
    assert i2c.kl_over_positions(np.array([-1.0, -1.0]), nothing) == math.inf
    assert i2c.kl_over_positions(np.full(3, -np.inf), np.full(3, -np.inf)) == 0


def test_an_answer_without_tokens_has_no_scores() -> None:
    empty = np.array([])
    assert i2c.compute_scores(make_evidence(empty, empty)) == {}


def test_k2_is_the_mean_of_the_tokens() -> None:
    assert compute_scores(P, R, token_kl=np.array([0.0, 1.0, 2.0, 3.0, 4.0]))["i2c_vocab"] == 2.0


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="'image_logprobs': 5, 'text_logprobs': 4"):
        make_evidence(np.log(P), np.log(R[:4]))
