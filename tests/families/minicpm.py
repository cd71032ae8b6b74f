"""MiniCPM-V 4.6: the text model of Qwen 3.5, and images that lie in one row of patches."""

from typing import Any

import transformers as hf

from tests.families import templates
from tests.families.chatml import hybrid_text_config
from tests.families.sizes import TEXT, VISION, special_ids
from tests.families.tokens import train_byte_level_tokenizer

MARKERS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "image_start_token": "<image>",
    "image_end_token": "</image>",
    "slice_start_token": "<slice>",
    "slice_end_token": "</slice>",
    "image_id_start_token": "<image_id>",
    "image_id_end_token": "</image_id>",
}


def build_minicpm_v_4_6() -> tuple[Any, Any]:
    """An image is seen whole and, enlarged, in up to four slices of about 64 x 64 pixels."""
    roles = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", **MARKERS}
    tokenizer = train_byte_level_tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *MARKERS.values(), "<think>", "</think>"],
        roles=roles,
    )
    slices = {"max_slice_nums": 4, "scale_resolution": 64, "patch_size": 8}
    processor = hf.MiniCPMV4_6Processor(
        hf.MiniCPMV4_6ImageProcessor(**slices),
        hf.MiniCPMV4_6VideoProcessor(**slices),
        tokenizer,
        chat_template=templates.THINKING_OFF + templates.MINICPM_V_4_6,
    )
    config = hf.MiniCPMV4_6Config(
        vision_config={**VISION, "image_size": 64, "patch_size": 8},
        text_config={
            **hybrid_text_config(),
            **special_ids(tokenizer),
            "model_type": "qwen3_5_text",
            "hidden_size": TEXT["hidden_size"],
        },
        insert_layer_id=0,
        image_size=64,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )
    return hf.MiniCPMV4_6ForConditionalGeneration(config), processor
