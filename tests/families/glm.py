"""GLM-4.1V and GLM-4.6V: Qwen2-VL's way to see, with positions of its own."""

from typing import Any

import transformers as hf

from tests.families import templates
from tests.families.sizes import HEAD_DIM, TEXT, VISION, special_ids
from tests.families.tokens import train_byte_level_tokenizer

SIZE = {"shortest_edge": 2 * 32 * 32, "longest_edge": 2 * 96 * 96}  # of two frames
IMAGE = ("<|begin_of_image|>", "<|image|>", "<|end_of_image|>")
VIDEO = ("<|begin_of_video|>", "<|video|>", "<|end_of_video|>")
TURNS = ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>")


def _tokenizer(*others: str) -> Any:
    return train_byte_level_tokenizer(
        ["<|endoftext|>", *TURNS, *IMAGE, *VIDEO, *others],
        roles={"eos_token": "<|user|>", "pad_token": "<|endoftext|>"},
    )


def _config_fields(tokenizer: Any) -> dict[str, Any]:
    id_of = tokenizer.convert_tokens_to_ids
    return {
        "text_config": {
            **TEXT,
            **special_ids(tokenizer),
            "head_dim": HEAD_DIM,
            "attention_bias": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [2, 3, 3],
                "partial_rotary_factor": 0.5,
            },
        },
        "vision_config": {
            **{key: VISION[key] for key in ("hidden_size", "intermediate_size")},
            "depth": 2,
            "num_heads": 2,
            "image_size": 64,
            "patch_size": 8,
            "out_hidden_size": TEXT["hidden_size"],
        },
        "image_token_id": id_of("<|image|>"),
        "image_start_token_id": id_of("<|begin_of_image|>"),
        "image_end_token_id": id_of("<|end_of_image|>"),
        "video_token_id": id_of("<|video|>"),
        "video_start_token_id": id_of("<|begin_of_video|>"),
        "video_end_token_id": id_of("<|end_of_video|>"),
    }


def build_glm_4_1v() -> tuple[Any, Any]:
    """Images at their own size: 4 to 36 tokens of 16 x 16 pixels."""
    tokenizer = _tokenizer()
    processor = hf.Glm4vProcessor(
        hf.Glm4vImageProcessor(patch_size=8, size=SIZE),
        tokenizer,
        hf.Glm4vVideoProcessor(patch_size=8),
        chat_template=templates.GLM_4_1V,
    )
    config = hf.Glm4vConfig(**_config_fields(tokenizer))
    return hf.Glm4vForConditionalGeneration(config), processor


def build_glm_4_6v() -> tuple[Any, Any]:
    """As GLM-4.1V, with another template and processor."""
    tokenizer = _tokenizer("<think>", "</think>", "/nothink")
    processor = hf.Glm46VProcessor(
        hf.Glm46VImageProcessor(patch_size=8, size=SIZE),
        tokenizer,
        hf.Glm46VVideoProcessor(patch_size=8),
        chat_template=templates.THINKING_OFF + templates.GLM_4_6V,
    )
    config = hf.Glm46VConfig(**_config_fields(tokenizer))
    return hf.Glm46VForConditionalGeneration(config), processor
