"""Command A Vision (Cohere2 Vision) and Aya Vision: their logits are multiplied by a number."""

from typing import Any

import transformers as hf

from tests.families import templates
from tests.families.sizes import HEAD_DIM, TEXT, VISION, special_ids
from tests.families.tokens import train_byte_level_tokenizer

LOGIT_SCALE = 0.5
TURNS = ("START_OF_TURN_TOKEN", "USER_TOKEN", "CHATBOT_TOKEN", "START_RESPONSE", "END_RESPONSE")
TILES = ("TILE", "TILE_GLOBAL", *(f"TILE_{number}" for number in range(1, 5)))
IMAGES = {
    "size": {"height": 32, "width": 32},
    "crop_to_patches": True,
    "min_patches": 1,
    "max_patches": 4,
}


def _tokenizer(*others: str) -> Any:
    roles = {
        "bos_token": "<BOS_TOKEN>",
        "eos_token": "<|END_OF_TURN_TOKEN|>",
        "pad_token": "<PAD>",
        "boi_token": "<|START_OF_IMG|>",
        "eoi_token": "<|END_OF_IMG|>",
        "image_token": "<|IMG_PATCH|>",
        "img_line_break_token": "<|IMG_LINE_BREAK|>",
    }
    turns = [f"<|{name}|>" for name in TURNS]
    return train_byte_level_tokenizer(
        [*roles.values(), *turns, *others], bos="<BOS_TOKEN>", roles=roles
    )


def _config_fields(tokenizer: Any) -> dict[str, Any]:
    return {
        "vision_config": hf.SiglipVisionConfig(
            **VISION, image_size=32, patch_size=8, vision_use_head=False
        ),
        "text_config": hf.Cohere2Config(
            **TEXT,
            **special_ids(tokenizer),
            head_dim=HEAD_DIM,
            logit_scale=LOGIT_SCALE,
            # As long as the texts: vLLM 0.32 lets a token see one more than transformers does.
            sliding_window=512,
            layer_types=["sliding_attention", "full_attention"],
        ),
        "downsample_factor": 2,
    }


def build_cohere_2_vision() -> tuple[Any, Any]:
    """An image is cut into up to four tiles of 32 x 32 pixels, 4 tokens each, and a thumbnail."""
    tokenizer = _tokenizer()
    processor = hf.Cohere2VisionProcessor(
        # The processor takes the square of this for the number of a tile's tokens.
        hf.Cohere2VisionImageProcessor(**IMAGES, patch_size=2),
        tokenizer,
        chat_template=templates.COHERE_2_VISION,
    )
    config = hf.Cohere2VisionConfig(
        **_config_fields(tokenizer),
        alignment_intermediate_size=128,
        image_token_id=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    return hf.Cohere2VisionForConditionalGeneration(config), processor


def build_aya_vision() -> tuple[Any, Any]:
    """As Cohere2 Vision, with a number before each tile."""
    tokenizer = _tokenizer("<image>", *TILES)
    processor = hf.AyaVisionProcessor(
        hf.GotOcr2ImageProcessor(**IMAGES),
        tokenizer,
        patch_size=8,
        img_size=32,
        downsample_factor=2,
        chat_template=templates.AYA_VISION,
    )
    config = hf.AyaVisionConfig(
        **_config_fields(tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    return hf.AyaVisionForConditionalGeneration(config), processor
