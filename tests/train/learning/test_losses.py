import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c3l_ray.methods.i2c import Floats
from c3l_ray.train.learning import losses
from c3l_ray.train.objectives import PairLoss
from tests.train.learning.builders import random_tensor


@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 9))
@settings(deadline=None)
def test_the_inner_product_of_mean_directions_is_the_mean_of_all_cosines(
    seed: int, num_windows: int, num_tokens: int
) -> None:
    window_KD, token_LD = (
        random_tensor(seed, num_windows, 5),
        random_tensor(seed + 1, num_tokens, 5),
    )
    cosine_KL = torch.nn.functional.cosine_similarity(
        window_KD.unsqueeze(1), token_LD.unsqueeze(0), dim=-1
    )
    product = losses.mean_direction(window_KD) @ losses.mean_direction(token_LD)
    assert torch.allclose(product, cosine_KL.mean())


def test_info_nce_sums_over_the_allowed_turns_only() -> None:
    anchor_BD, turn_RD = random_tensor(0, 2, 4), random_tensor(1, 5, 4)
    allowed_BR = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 1, 1]], dtype=torch.bool)
    positive_B = torch.tensor([0, 3])
    cosine_BR = losses.cosine_similarity(anchor_BD, turn_RD)
    loss_B = losses.info_nce(cosine_BR, positive_B, allowed_BR, 0.2)
    anchor, turn = anchor_BD.numpy(), turn_RD.numpy()
    for b, members in enumerate(([0, 1, 2], [3, 4])):
        cosines = [
            turn[r] @ anchor[b] / np.linalg.norm(turn[r]) / np.linalg.norm(anchor[b])
            for r in members
        ]
        terms = np.exp(np.array(cosines) / 0.2)
        assert np.isclose(loss_B[b], -np.log(terms[0] / terms.sum()))
        assert np.allclose(cosine_BR[b, members], cosines)


@pytest.mark.parametrize("kind", ["dpo", "ipo"])
def test_the_loss_on_pairs_and_its_gradient_are_numpys(kind: PairLoss) -> None:
    beta, step = 0.3, 1e-6

    def compute(gain_B: Floats) -> Floats:
        if kind == "ipo":
            return (gain_B - 1 / (2 * beta)) ** 2
        return np.log(1 + np.exp(-beta * gain_B))

    gain_B = np.array([-40.0, -2.0, 0.0, 1.5, 30.0])
    leaf_B = torch.tensor(gain_B, requires_grad=True)
    loss_B = losses.prefer_best(leaf_B, kind, beta)
    assert np.allclose(loss_B.detach().numpy(), compute(gain_B), rtol=1e-9)
    loss_B.sum().backward()
    assert leaf_B.grad is not None
    slopes_B = (compute(gain_B + step) - compute(gain_B - step)) / (2 * step)
    assert np.allclose(leaf_B.grad.numpy(), slopes_B, atol=1e-6)


def test_an_anchor_without_negatives_has_no_loss() -> None:
    allowed_BR = torch.ones(1, 1, dtype=torch.bool)
    loss_B = losses.info_nce(random_tensor(0, 1, 1), torch.tensor([0]), allowed_BR, 0.2)
    assert loss_B.item() == 0


def test_the_mean_by_text_is_a_weighted_mean_of_each_text() -> None:
    weight_RT = torch.tensor([[1.0, 0.0, 3.0], [0.0, 0.0, 0.0], [0.0, 0.5, 0.0]])
    values_RTD = random_tensor(0, 3, 3, 2)
    text_N, token_N = weight_RT.nonzero(as_tuple=True)
    mean_RD = losses.mean_by_text(values_RTD[text_N, token_N], text_N, weight_RT)
    expected_0 = (values_RTD[0, 0] + 3 * values_RTD[0, 2]) / 4
    assert torch.allclose(
        mean_RD, torch.stack([expected_0, torch.zeros(2).double(), values_RTD[2, 1]])
    )


def test_windows_of_a_square_grid_are_squares_of_it() -> None:
    patch_PD = torch.arange(16.0).reshape(16, 1)
    grid = np.arange(16.0).reshape(4, 4)
    expected = [grid[y : y + 2, x : x + 2].mean() for y in (0, 2) for x in (0, 2)]
    assert losses.pool_windows(patch_PD, 4).squeeze(1).tolist() == expected
    assert losses.pool_windows(patch_PD, 36).equal(patch_PD)
    runs_KD = losses.pool_windows(torch.arange(6.0).reshape(6, 1), 3)
    assert runs_KD.squeeze(1).tolist() == [0.5, 2.5, 4.5]


def test_two_sided_alignment_is_the_mean_of_both_directions() -> None:
    image_BD, text_BD = random_tensor(0, 3, 4), random_tensor(1, 3, 4)
    temperature = torch.tensor(0.07, dtype=torch.float64)
    loss_B, own_similarity_B, other_similarity_B = losses.two_sided_alignment(
        image_BD, text_BD, torch.ones(3, dtype=torch.float64), temperature
    )
    similarity = image_BD.numpy() @ text_BD.numpy().T
    terms = np.exp(similarity / 0.07)
    for b in range(3):
        rows = -np.log(terms[b, b] / terms[b].sum())
        columns = -np.log(terms[b, b] / terms[:, b].sum())
        assert np.isclose(loss_B[b], (rows + columns) / 2)
        assert np.isclose(own_similarity_B[b], similarity[b, b])
        others = (similarity[b].sum() - similarity[b, b]) / 2
        assert np.isclose(other_similarity_B[b], others)


def test_a_filler_is_nobodys_negative() -> None:
    image_BD, text_BD = random_tensor(0, 3, 4), random_tensor(1, 3, 4)
    temperature = torch.tensor(0.5, dtype=torch.float64)
    loss_of_two, _, _ = losses.two_sided_alignment(
        image_BD[:2], text_BD[:2], torch.ones(2, dtype=torch.float64), temperature
    )
    weight_B = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    loss_B, _, _ = losses.two_sided_alignment(image_BD, text_BD, weight_B, temperature)
    assert torch.allclose(loss_B[:2], loss_of_two) and torch.isfinite(loss_B).all()
