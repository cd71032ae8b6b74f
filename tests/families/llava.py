"""LLaVA-1.5 with Vicuna's conversation, LLaVA-NeXT with Mistral's, LLaVA-OneVision with Qwen2's."""

from typing import Any

import transformers as hf

from tests.families import templates
from tests.families.sizes import TEXT, VISION, special_ids
from tests.families.tokens import train_byte_level_tokenizer, train_piece_tokenizer

LLAMA_2 = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def _tokenizer() -> Any:
    return train_piece_tokenizer(
        [*LLAMA_2.values(), "<image>"],
        bos="<s>",
        roles={**LLAMA_2, "image_token": "<image>"},
        leading_space=True,
    )


def build_llava_1_5() -> tuple[Any, Any]:
    tokenizer = _tokenizer()
    processor = hf.LlavaProcessor(
        image_processor=hf.CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=templates.LLAVA_1_5,
    )
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**VISION, image_size=32, patch_size=8),
        text_config=hf.LlamaConfig(**TEXT, **special_ids(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    return hf.LlavaForConditionalGeneration(config), processor


def build_llava_next() -> tuple[Any, Any]:
    """The Mistral one; an image is seen whole and, enlarged, in two to four parts."""
    tokenizer = _tokenizer()
    pinpoints = [[32, 64], [64, 32], [64, 64]]
    processor = hf.LlavaNextProcessor(
        image_processor=hf.LlavaNextImageProcessor(
            size={"shortest_edge": 32},
            crop_size={"height": 32, "width": 32},
            image_grid_pinpoints=pinpoints,
        ),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=templates.LLAVA_NEXT,
    )
    config = hf.LlavaNextConfig(
        vision_config=hf.CLIPVisionConfig(**VISION, image_size=32, patch_size=8),
        text_config=hf.MistralConfig(**TEXT, **special_ids(tokenizer), sliding_window=None),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pinpoints,
        image_seq_length=16,
    )
    return hf.LlavaNextForConditionalGeneration(config), processor


def build_llava_onevision() -> tuple[Any, Any]:
    """Qwen2 with SigLIP; an image is seen whole and, enlarged, in two to four parts."""
    tokenizer = train_byte_level_tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"],
        roles={
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "image_token": "<image>",
            "video_token": "<video>",
        },
    )
    pinpoints = [[32, 64], [64, 32], [64, 64]]
    size = {"height": 32, "width": 32}
    processor = hf.LlavaOnevisionProcessor(
        image_processor=hf.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints),
        tokenizer=tokenizer,
        video_processor=hf.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=templates.LLAVA_ONEVISION,
    )
    config = hf.LlavaOnevisionConfig(
        vision_config=hf.SiglipVisionConfig(
            **VISION, image_size=32, patch_size=8, vision_use_head=False
        ),
        text_config=hf.Qwen2Config(**TEXT, **special_ids(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pinpoints,
    )
    return hf.LlavaOnevisionForConditionalGeneration(config), processor
