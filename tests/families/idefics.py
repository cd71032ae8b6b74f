"""Idefics3 and its small successor SmolVLM."""

from typing import Any

import transformers as hf

from tests.families import templates
from tests.families.sizes import TEXT, VISION, special_ids
from tests.families.tokens import train_byte_level_tokenizer

CELLS = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
MARKERS = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *CELLS]
IMAGES = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}


def _four_token_parts(tokenizer: Any) -> dict[str, Any]:
    """A config's fields: an image, or a part of it, has 32 x 32 pixels."""
    return {
        "vision_config": {**VISION, "image_size": 32, "patch_size": 8},
        "text_config": hf.LlamaConfig(**TEXT, **special_ids(tokenizer)),
        "scale_factor": 2,
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "pad_token_id": tokenizer.pad_token_id,
    }


def build_idefics_3() -> tuple[Any, Any]:
    """Images are seen whole only, as where splitting is turned off."""
    tokenizer = train_byte_level_tokenizer(
        ["<|begin_of_text|>", "<|end_of_text|>", *MARKERS],
        bos="<|begin_of_text|>",
        roles={
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<end_of_utterance>",
            "pad_token": "<|end_of_text|>",
        },
    )
    processor = hf.Idefics3Processor(
        hf.Idefics3ImageProcessor(**IMAGES, do_image_splitting=False),
        tokenizer,
        image_seq_len=4,
        chat_template=templates.IDEFICS_3,
    )
    config = hf.Idefics3Config(**_four_token_parts(tokenizer))
    return hf.Idefics3ForConditionalGeneration(config), processor


def build_smolvlm() -> tuple[Any, Any]:
    """Images are cut into up to four parts, each with its row and column before it."""
    tokenizer = train_byte_level_tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *MARKERS],
        roles={
            "bos_token": "<|im_start|>",
            "eos_token": "<end_of_utterance>",
            "pad_token": "<|im_end|>",
            "unk_token": "<|endoftext|>",
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "end_of_utterance_token": "<end_of_utterance>",
            "global_image_token": "<global-img>",
        },
    )
    processor = hf.SmolVLMProcessor(
        hf.SmolVLMImageProcessor(**IMAGES, do_image_splitting=True),
        tokenizer,
        hf.SmolVLMVideoProcessor(),
        image_seq_len=4,
        chat_template=templates.SMOLVLM,
    )
    config = hf.SmolVLMConfig(**_four_token_parts(tokenizer))
    return hf.SmolVLMForConditionalGeneration(config), processor
