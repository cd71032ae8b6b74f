"""Replies of a model while it learns: how they are drawn, and which of them can be read."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from c3l_ray.train.learning import readable
from c3l_ray.train.learning.readable import (
    TEMPERATURE,
    GumbelNoise,
    Prompt,
    is_readable,
    measure_readable_share,
)
from tests.train.learning.builders import CPU


def test_the_largest_noisy_logit_is_a_sample_of_its_row_alone() -> None:
    logits_BV = torch.tensor([[1.0, 0.0, -1.0, 0.5]]).repeat(3, 1)
    ids = torch.zeros(3, 1, dtype=torch.long)
    three, alone = GumbelNoise([5, 6, 7]), GumbelNoise([6])
    num_draws = 4000
    drawn = torch.stack([three(ids, logits_BV).argmax(dim=1) for _ in range(num_draws)])
    again = [int(alone(ids[:1], logits_BV[:1]).argmax()) for _ in range(num_draws)]
    assert drawn[:, 1].tolist() == again != drawn[:, 0].tolist()
    expected_V = (logits_BV[0] / TEMPERATURE).softmax(dim=0)
    for row in range(3):
        share_V = drawn[:, row].bincount(minlength=4) / num_draws
        assert (share_V - expected_V).abs().max() < 0.03


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Question: What is it? Answer: A star.", True),
        ('{"question": "What is it?", "answer": "A star."}', True),
        ("Question: What is it? Answer:", False),
        ("A star.", False),
        ("Answer: Yes, there? Answer: four things.", False),
        ("", False),
    ],
)
def test_a_reply_is_readable_where_a_question_and_an_answer_are_told_apart(
    reply: str, expected: bool
) -> None:
    assert is_readable(reply) == expected


def test_prompts_that_fill_a_place_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = ["Question: What is it? Answer: A star.", "no", "Question: Why? Answer: So."]
    monkeypatch.setattr(readable, "write_replies", lambda *_: replies)
    trainer: Any = SimpleNamespace(device=CPU)
    image = Image.new("RGB", (8, 8))
    prompts = [Prompt(image=image, text="", number=number) for number in range(3)]
    assert measure_readable_share(trainer, prompts, 2, None) == 0.5
    assert measure_readable_share(trainer, prompts, 3, None) == pytest.approx(2 / 3)
