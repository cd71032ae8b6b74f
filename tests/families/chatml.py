"""Qwen's families and InternVL3: one tokenizer and conversation, several ways to see."""

from typing import Any

import transformers as hf
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from tests.families import templates
from tests.families.sizes import HEAD_DIM, TEXT, VISION, special_ids
from tests.families.tokens import train_byte_level_tokenizer


def _train_chatml_tokenizer(*others: str, **roles: str) -> Any:
    return train_byte_level_tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *others],
        roles={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", **roles},
    )


QWEN_SIZE = {"shortest_edge": 32 * 32, "longest_edge": 96 * 96}
QWEN_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def _qwen_vision_ids(tokenizer: Any) -> dict[str, int]:
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return dict(zip(names, tokenizer.convert_tokens_to_ids(QWEN_VISION), strict=True))


def build_qwen_2_vl() -> tuple[Any, Any]:
    """Images at their own size: 4 to 36 tokens of 16 x 16 pixels."""
    tokenizer = _train_chatml_tokenizer(*QWEN_VISION)
    processor = hf.Qwen2VLProcessor(
        hf.Qwen2VLImageProcessor(patch_size=8, size=QWEN_SIZE),
        tokenizer,
        Qwen2VLVideoProcessor(patch_size=8),
        chat_template=templates.QWEN_2_5_VL,
    )
    config = hf.Qwen2VLConfig(
        text_config={
            **TEXT,
            **special_ids(tokenizer),
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6]},
        },
        vision_config={
            "embed_dim": VISION["hidden_size"],
            "depth": 2,
            "num_heads": 2,
            "patch_size": 8,
            "hidden_size": TEXT["hidden_size"],
        },
        **_qwen_vision_ids(tokenizer),
    )
    return hf.Qwen2VLForConditionalGeneration(config), processor


def build_qwen_2_5_vl() -> tuple[Any, Any]:
    """As Qwen2-VL, with windows in the vision tower."""
    tokenizer = _train_chatml_tokenizer(*QWEN_VISION)
    processor = hf.Qwen2_5_VLProcessor(
        hf.Qwen2VLImageProcessor(patch_size=8, size=QWEN_SIZE),
        tokenizer,
        Qwen2VLVideoProcessor(patch_size=8),
        chat_template=templates.QWEN_2_5_VL,
    )
    config = hf.Qwen2_5_VLConfig(
        text_config={
            **TEXT,
            **special_ids(tokenizer),
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6]},
        },
        vision_config={
            **{key: VISION[key] for key in ("hidden_size", "intermediate_size")},
            "depth": 3,
            "num_heads": 2,
            "patch_size": 8,
            "window_size": 32,
            "fullatt_block_indexes": [1],
            "out_hidden_size": TEXT["hidden_size"],
        },
        **_qwen_vision_ids(tokenizer),
    )
    return hf.Qwen2_5_VLForConditionalGeneration(config), processor


def build_qwen_3_vl() -> tuple[Any, Any]:
    """As Qwen2.5-VL, with features of two vision layers added to the first text layers."""
    tokenizer = _train_chatml_tokenizer(*QWEN_VISION)
    processor = hf.Qwen3VLProcessor(
        hf.Qwen2VLImageProcessor(patch_size=8, size=QWEN_SIZE),
        tokenizer,
        hf.Qwen3VLVideoProcessor(patch_size=8),
        chat_template=templates.QWEN_3_VL,
    )
    config = hf.Qwen3VLConfig(
        text_config={
            **TEXT,
            **special_ids(tokenizer),
            "head_dim": HEAD_DIM,
            "num_hidden_layers": 3,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
                "rope_theta": 10_000.0,
            },
        },
        vision_config={
            **{key: VISION[key] for key in ("hidden_size", "intermediate_size")},
            "depth": 3,
            "num_heads": 2,
            "patch_size": 8,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
            "out_hidden_size": TEXT["hidden_size"],
        },
        **_qwen_vision_ids(tokenizer),
    )
    return hf.Qwen3VLForConditionalGeneration(config), processor


def build_qwen_3_vl_moe() -> tuple[Any, Any]:
    """As Qwen3-VL, with four experts in each text layer, two for a token."""
    dense, processor = build_qwen_3_vl()
    config = hf.Qwen3VLMoeConfig(
        text_config={
            **TEXT,
            **special_ids(processor.tokenizer),
            "head_dim": HEAD_DIM,
            "num_hidden_layers": 3,
            "rope_parameters": dense.config.text_config.rope_parameters,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 48,
        },
        vision_config=dense.config.vision_config.to_dict(),
        **_qwen_vision_ids(processor.tokenizer),
    )
    return hf.Qwen3VLMoeForConditionalGeneration(config), processor


def build_qwen_3_5() -> tuple[Any, Any]:
    """Three of four text layers are linear attention: what they carry on grows with the tokens."""
    tokenizer = _train_chatml_tokenizer(*QWEN_VISION, "<think>", "</think>")
    processor = hf.Qwen3VLProcessor(
        hf.Qwen2VLImageProcessor(patch_size=8, size=QWEN_SIZE),
        tokenizer,
        hf.Qwen3VLVideoProcessor(patch_size=8),
        chat_template=templates.THINKING_OFF + templates.QWEN_3_5,
    )
    config = hf.Qwen3_5Config(
        text_config={
            **hybrid_text_config(),
            **special_ids(tokenizer),
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
                "rope_theta": 10_000.0,
                "partial_rotary_factor": 0.25,
            },
        },
        vision_config={
            **{key: VISION[key] for key in ("hidden_size", "intermediate_size")},
            "depth": 2,
            "num_heads": 2,
            "patch_size": 8,
            "num_position_embeddings": 64,
            "out_hidden_size": TEXT["hidden_size"],
        },
        **_qwen_vision_ids(tokenizer),
    )
    return hf.Qwen3_5ForConditionalGeneration(config), processor


def hybrid_text_config() -> dict[str, Any]:
    """A text config of Qwen 3.5: three layers of linear attention, one of full attention."""
    return {
        **TEXT,
        "num_hidden_layers": 4,
        "head_dim": HEAD_DIM,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": HEAD_DIM,
        "linear_value_head_dim": HEAD_DIM,
    }


def build_internvl_3() -> tuple[Any, Any]:
    """An image is cut into up to four tiles of 32 x 32 pixels, 4 tokens each, and a thumbnail."""
    roles = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = _train_chatml_tokenizer(*roles.values(), **roles)
    processor = hf.InternVLProcessor(
        hf.GotOcr2ImageProcessor(
            size={"height": 32, "width": 32}, crop_to_patches=True, min_patches=1, max_patches=4
        ),
        tokenizer,
        hf.InternVLVideoProcessor(size={"height": 32, "width": 32}),
        image_seq_length=4,
        chat_template=templates.INTERNVL,
    )
    config = hf.InternVLConfig(
        vision_config=hf.InternVLVisionConfig(
            **VISION, image_size=[32, 32], patch_size=[8, 8], attention_bias=True
        ),
        text_config=hf.Qwen2Config(**TEXT, **special_ids(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    return hf.InternVLForConditionalGeneration(config), processor
