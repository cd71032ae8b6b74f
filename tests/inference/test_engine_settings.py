"""The arithmetic of an engine's steps and requests."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import AutoProcessor

from c3l_ray import chat
from c3l_ray.inference.engine_settings import (
    PROMPT_TOKENS,
    choose_max_len,
    choose_step_tokens,
    longest_request,
    read_position_limit,
)
from c3l_ray.methods.vigc import CorrectionRules
from c3l_ray.scenes import world
from tests.inference.builders import MakeConfig


@pytest.mark.parametrize(
    ("gpu_gib", "gpu_name", "share", "tokens"),
    [
        (79.6, "NVIDIA H100 80GB HBM3", 0.9, 16_384),
        (79.6, "NVIDIA H100 80GB HBM3", 0.63, 16_384),
        (79.6, "NVIDIA H100 80GB HBM3", 0.25, 8_192),
        (139.8, "NVIDIA H200", 0.9, 16_384),
        (79.3, "NVIDIA A100-SXM4-80GB", 0.9, 8_192),
        (44.4, "NVIDIA L40S", 0.9, 8_192),
        (23.6, "NVIDIA GeForce RTX 4090", 0.63, 8_192),
    ],
)
def test_a_step_is_as_large_as_the_card_and_its_share_allow(
    gpu_gib: float, gpu_name: str, share: float, tokens: int
) -> None:
    card: dict[str, Any] = {"gpu_gib": gpu_gib, "gpu_name": gpu_name, "share": share}
    assert choose_step_tokens(None, **card) == tokens
    assert choose_step_tokens(2_048, **card) == 2_048


@pytest.mark.parametrize(
    ("asked", "longest", "model_limit", "expected"),
    [
        (None, 3_000, 262_144, 8_192),  # Qwen3-VL
        (None, 9_000, 262_144, 9_216),
        (None, 9_000, 8_192, None),  # the model's own limit, whatever is needed
        (None, 3_000, 4_096, None),
        (None, 3_000, None, None),
        (256, 3_000, 262_144, 256),
    ],
)
def test_a_request_is_as_long_as_the_run_needs(
    asked: int | None, longest: int, model_limit: int | None, expected: int | None
) -> None:
    chosen = choose_max_len(asked, longest_request=longest, model_limit=model_limit)
    assert chosen == expected


def test_the_longest_request_holds_image_prompt_reply_and_correction(config: MakeConfig) -> None:
    processor = AutoProcessor.from_pretrained(world.LLAVA)
    plain = longest_request(processor, config())
    image_and_words = plain - PROMPT_TOKENS - config().sampling.max_tokens
    prompt = chat.answer_prompt(processor, "", with_image=True)
    image = Image.new("RGB", (50, 40))  # this model gives all images as many tokens
    assert image_and_words == len(processor(text=[prompt], images=[[image]])["input_ids"][0])
    rules = CorrectionRules(max_steps=2, max_detail_steps=3, max_tokens=100)
    corrected = config(correct=True, correction=rules)
    assert longest_request(processor, corrected) == plain + 300
    asked_again = config(answers=2)  # the question stands in the prompt
    assert longest_request(processor, asked_again) == plain + config().sampling.max_tokens
    both = config(answers=2, correct=True, correction=rules)
    assert longest_request(processor, both) == plain + 300
    longer = dataclasses.replace(config().sampling, max_tokens=1_000)
    assert longest_request(processor, config(sampling=longer)) == plain + 1_000 - 96


def test_tokens_of_an_image_grow_with_its_pixels(config: MakeConfig) -> None:
    class PatchProcessor:
        """One token for each 28 x 28 pixels, as Qwen-VL has them; nothing narrower than 8 : 1."""

        chat_template = "x"

        def apply_chat_template(self, *_: Any, **__: Any) -> str:
            return ""

        def __call__(self, *, images: Any, **_: Any) -> dict[str, Any]:
            ((image,),) = images
            if max(image.size) > 8 * min(image.size):
                raise ValueError("too narrow")
            num_tokens = image.width * image.height // 784
            return {"input_ids": type("Ids", (), {"shape": (1, num_tokens)})}

    lengths = [
        longest_request(PatchProcessor(), config(max_pixels=pixels))
        for pixels in (10**6, 4 * 10**6)
    ]
    assert lengths[1] - lengths[0] == pytest.approx(3 * 10**6 / 784, rel=0.01)


def test_positions_are_read_from_the_config(tmp_path: Path) -> None:
    limit = read_position_limit(str(world.LLAVA), trust_remote_code=False)
    text_config = world.LLAVA / "config.json"
    assert f'"max_position_embeddings": {limit}' in text_config.read_text()
