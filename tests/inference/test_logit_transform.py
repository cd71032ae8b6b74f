"""What a config's numbers can mean for the logits, and what each does to them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as hf

from c3l_ray.inference.logit_transform import (
    LogitTransform,
    declared_transforms,
    restore_logit_transform,
)


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


TEXT = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "image_size": 8,
    "patch_size": 4,
}


def build_cohere_2_vision() -> Any:
    text_config = hf.Cohere2Config(**TEXT, logit_scale=0.0625)
    config = hf.Cohere2VisionConfig(
        vision_config=hf.SiglipVisionConfig(**VISION),
        text_config=text_config,
        alignment_intermediate_size=16,
    )
    return hf.Cohere2VisionForConditionalGeneration(config)


def build_llava_next_with_granite() -> Any:
    """As Granite Vision 3 is."""
    text_config = hf.GraniteConfig(**TEXT, logits_scaling=8.0)
    config = hf.LlavaNextConfig(
        vision_config=hf.CLIPVisionConfig(**VISION), text_config=text_config
    )
    return hf.LlavaNextForConditionalGeneration(config)


def build_paligemma_2() -> Any:
    text_config = hf.Gemma2Config(**TEXT, final_logit_softcapping=2.0)
    config = hf.PaliGemmaConfig(
        vision_config={**VISION, "model_type": "siglip_vision_model"},
        text_config=text_config,
        projection_dim=32,
    )
    return hf.PaliGemmaForConditionalGeneration(config)


@pytest.mark.parametrize(
    ("build", "text_class"),
    [
        (build_cohere_2_vision, hf.Cohere2ForCausalLM),
        (build_llava_next_with_granite, hf.GraniteForCausalLM),
        (build_paligemma_2, hf.Gemma2ForCausalLM),
    ],
)
@torch.no_grad()
def test_what_the_text_models_own_class_does_to_logits_is_done(
    build: Callable[[], Any], text_class: Any
) -> None:
    torch.manual_seed(0)
    vlm = build().eval()
    vlm.get_output_embeddings().weight.normal_()
    text_model = text_class(vlm.config.text_config).eval()
    text_model.model, text_model.lm_head = vlm.model.language_model, vlm.lm_head
    inputs = {"input_ids": torch.arange(1, 9)[None], "attention_mask": torch.ones(1, 8)}
    expected = text_model(**inputs).logits
    assert (vlm(**inputs).logits - expected).abs().max() > 1  # transformers has no fault any more
    restore_logit_transform(vlm)
    assert torch.allclose(vlm(**inputs).logits, expected, atol=1e-5)


@torch.no_grad()
def test_what_a_class_does_itself_is_not_done_twice() -> None:
    text_config = hf.Granite4VisionTextConfig(**TEXT, logits_scaling=8.0)
    config = hf.Granite4VisionConfig(
        vision_config=hf.SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=text_config,
        downsample_rate="1/2",
        deepstack_layer_map=[[-1, 0]],
        qformer_config={"hidden_size": 16, "encoder_hidden_size": 16, "num_attention_heads": 1},
    )
    vlm = hf.Granite4VisionForConditionalGeneration(config).eval()
    inputs = {"input_ids": torch.arange(1, 9)[None]}
    expected = vlm(**inputs).logits
    restore_logit_transform(vlm)
    assert torch.equal(vlm(**inputs).logits, expected)
