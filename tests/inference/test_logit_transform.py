"""What a config's numbers can mean for the logits, and what each does to them."""

from types import SimpleNamespace

import torch

from c3l_ray.inference.logit_transform import LogitTransform, declared_transforms


def test_nothing_is_done_to_logits_where_nothing_is_declared() -> None:
    logits = torch.tensor([[-40.0, 0.5, 12.0]])
    config = SimpleNamespace(final_logit_softcapping=None, logit_scale=0, logits_scaling="none")
    assert declared_transforms(config) == [LogitTransform()]
    assert LogitTransform().apply(logits) is logits


def test_a_number_can_be_a_factor_or_a_divisor_before_a_cap() -> None:
    config = SimpleNamespace(logits_scaling=8, final_logit_softcapping=30)
    assert declared_transforms(config) == [
        LogitTransform(scale=scale, cap=cap) for cap in (None, 30.0) for scale in (1.0, 8.0, 0.125)
    ]


def test_a_scale_comes_before_a_cap() -> None:
    logits = torch.tensor([[-40.0, 0.5, 12.0]])
    expected = 30 * torch.tanh(2 * logits / 30)
    assert torch.allclose(LogitTransform(scale=2.0, cap=30.0).apply(logits), expected)
