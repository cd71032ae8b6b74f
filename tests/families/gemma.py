"""Gemma 3, Gemma 3n and Gemma 4."""

from typing import Any

import transformers as hf

from tests.families import templates
from tests.families.sizes import HEAD_DIM, TEXT, VISION, special_ids
from tests.families.tokens import NEWLINES, train_piece_tokenizer

CAP = 30.0


def build_gemma_3() -> tuple[Any, Any]:
    """Three of four text layers see a window of 24 tokens; image tokens see each other."""
    roles = {
        "bos_token": "<bos>",
        "eos_token": "<end_of_turn>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    tokenizer = train_piece_tokenizer(
        [*roles.values(), "<start_of_turn>"],
        bos="<bos>",
        roles=roles,
        leading_space=False,
        unsplit=NEWLINES,
    )
    processor = hf.Gemma3Processor(
        hf.Gemma3ImageProcessor(size={"height": 32, "width": 32}),
        tokenizer,
        image_seq_length=4,
        chat_template=templates.GEMMA_3,
    )
    id_of = tokenizer.convert_tokens_to_ids
    config = hf.Gemma3Config(
        vision_config={**VISION, "image_size": 32, "patch_size": 8, "vision_use_head": False},
        text_config={
            **TEXT,
            **special_ids(tokenizer),
            "num_hidden_layers": 4,
            "head_dim": HEAD_DIM,
            "query_pre_attn_scalar": HEAD_DIM,
            "sliding_window": 24,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        },
        mm_tokens_per_image=4,
        boi_token_index=id_of("<start_of_image>"),
        eoi_token_index=id_of("<end_of_image>"),
        image_token_index=id_of("<image_soft_token>"),
    )
    return hf.Gemma3ForConditionalGeneration(config), processor


def build_gemma_3n() -> tuple[Any, Any]:
    """A vision tower of convolutions, 256 tokens an image; logits are capped as Gemma 4's."""
    roles = {
        "bos_token": "<bos>",
        "eos_token": "<end_of_turn>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "boi_token": "<start_of_image>",
        "boa_token": "<start_of_audio>",
    }
    # The model embeds these by tables of its towers, which begin at the first of each pair.
    tower_roles = {
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
        "eoa_token": "<end_of_audio>",
        "audio_token": "<audio_soft_token>",
    }
    tokenizer = train_piece_tokenizer(
        [*roles.values(), "<start_of_turn>", *tower_roles.values()],
        bos="<bos>",
        roles={**roles, **tower_roles},
        leading_space=False,
        unsplit=NEWLINES,
    )
    processor = hf.Gemma3nProcessor(
        hf.Gemma3nAudioFeatureExtractor(),
        hf.SiglipImageProcessor(size={"height": 64, "width": 64}, do_normalize=False),
        tokenizer,
        chat_template=templates.GEMMA_3.replace("<start_of_image>", "<image_soft_token>"),
    )
    id_of = tokenizer.convert_tokens_to_ids
    config = hf.Gemma3nConfig(
        vision_config={
            "model_args": {"channel_multiplier": 0.125},
            "vocab_offset": id_of("<end_of_image>"),
            "vocab_size": 2,
        },
        audio_config={
            "hidden_size": 64,
            "conf_num_attention_heads": 2,
            "conf_num_hidden_layers": 1,
            "sscp_conv_channel_size": [8, 4],
            "vocab_offset": id_of("<end_of_audio>"),
            "vocab_size": 2,
        },
        text_config={
            **TEXT,
            **special_ids(tokenizer),
            "num_hidden_layers": 4,
            "head_dim": HEAD_DIM,
            "sliding_window": 24,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "vocab_size_per_layer_input": id_of("<end_of_image>"),
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 2,
            "laurel_rank": 8,
            "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
            "final_logit_softcapping": CAP,
        },
        boi_token_id=id_of("<start_of_image>"),
        eoi_token_id=id_of("<end_of_image>"),
        image_token_id=id_of("<image_soft_token>"),
        boa_token_id=id_of("<start_of_audio>"),
        eoa_token_id=id_of("<end_of_audio>"),
        audio_token_id=id_of("<audio_soft_token>"),
    )
    return hf.Gemma3nForConditionalGeneration(config), processor


def build_gemma_4() -> tuple[Any, Any]:
    """As Gemma 3, with a cap of 30 on its logits; image tokens see earlier ones only, as in E2B."""
    roles = {
        "bos_token": "<bos>",
        "eos_token": "<turn|>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "image_token": "<|image|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
        "audio_token": "<|audio|>",
    }
    tokenizer = train_piece_tokenizer(
        [*roles.values(), "<|turn>", "<|channel>", "<channel|>", "<|video|>"],
        bos="<bos>",
        roles=roles,
        leading_space=False,
        unsplit=NEWLINES,
    )
    processor = hf.Gemma4Processor(
        hf.Gemma4AudioFeatureExtractor(),
        hf.Gemma4ImageProcessor(patch_size=8, max_soft_tokens=70, pooling_kernel_size=2),
        tokenizer,
        hf.Gemma4VideoProcessor(),
        chat_template=templates.GEMMA_4,
    )
    id_of = tokenizer.convert_tokens_to_ids
    config = hf.Gemma4Config(
        vision_config={
            **VISION,
            "num_key_value_heads": VISION["num_attention_heads"],
            "head_dim": HEAD_DIM,
            "patch_size": 8,
            "pooling_kernel_size": 2,
            "position_embedding_size": 64,
            "default_output_length": 70,
        },
        text_config={
            **TEXT,
            **special_ids(tokenizer),
            "pad_token_id": 0,  # as published; vLLM knows no other
            "num_hidden_layers": 4,
            "head_dim": HEAD_DIM,
            "global_head_dim": HEAD_DIM,
            "sliding_window": 24,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
            "vocab_size_per_layer_input": len(tokenizer),
            "hidden_size_per_layer_input": 8,
            "final_logit_softcapping": CAP,
            "tie_word_embeddings": False,
        },
        tie_word_embeddings=False,
        image_token_id=id_of("<|image|>"),
        boi_token_id=id_of("<|image>"),
        eoi_token_id=id_of("<image|>"),
        audio_token_id=id_of("<|audio|>"),
        boa_token_id=id_of("<|audio>"),
        eoa_token_index=id_of("<audio|>"),
        video_token_id=id_of("<|video|>"),
    )
    return hf.Gemma4ForConditionalGeneration(config), processor
