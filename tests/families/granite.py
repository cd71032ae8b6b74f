"""Granite 4 Vision: its logits are divided by a number of its config."""

from typing import Any

import transformers as hf

from tests.families import templates
from tests.families.sizes import TEXT, VISION, special_ids
from tests.families.tokens import train_byte_level_tokenizer

LOGITS_SCALING = 3.0


def build_granite_4_vision() -> tuple[Any, Any]:
    """LLaVA-NeXT's parts, 4 tokens each, whose features enter at six layers of the text model."""
    tokenizer = train_byte_level_tokenizer(
        ["<|end_of_text|>", "<|pad|>", "<|start_of_role|>", "<|end_of_role|>", "<image>"],
        roles={
            "bos_token": "<|end_of_text|>",
            "eos_token": "<|end_of_text|>",
            "pad_token": "<|pad|>",
            "image_token": "<image>",
        },
    )
    pinpoints = [[32, 64], [64, 32], [64, 64]]
    processor = hf.Granite4VisionProcessor(
        image_processor=hf.LlavaNextImageProcessor(
            size={"height": 32, "width": 32},
            crop_size={"height": 32, "width": 32},
            image_grid_pinpoints=pinpoints,
            do_center_crop=False,
        ),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        chat_template=templates.GRANITE_4,
    )
    config = hf.Granite4VisionConfig(
        vision_config={
            **VISION,
            "model_type": "siglip_vision_model",
            "image_size": 32,
            "patch_size": 8,
            "vision_use_head": False,
        },
        text_config={
            **TEXT,
            **special_ids(tokenizer),
            "num_hidden_layers": 6,
            "embedding_multiplier": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.2,
            "logits_scaling": LOGITS_SCALING,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pinpoints,
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        deepstack_layer_map=[[-2, 0], [-1, 1]],
        spatial_target_layers=[2, 3, 4, 5],
    )
    return hf.Granite4VisionForConditionalGeneration(config), processor
