"""Tiny random checkpoints of the families: their real classes, files and formats, our own weights.

Each is written under a folder by `write`; what is small about them is only their numbers.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from tests.families import templates
from tests.families.tokens import NEWLINES, byte_level, pieces

TEXT = {  # vLLM's attention on the CPU takes heads of 32 and up
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 2048,
}
VISION = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family as the tests know it.

    Attributes:
        name: as people say it.
        parts: makes the model and the processor.
        spaced: whether its chat template puts a space before an answer.
        named_tower: whether its files name the vision weights with a level that transformers drops.
        both_ways: whether an image's tokens see later ones of that image too.
    """

    name: str
    parts: Callable[[], tuple[Any, Any]]
    spaced: bool
    named_tower: bool = False
    both_ways: bool = False

    @property
    def slug(self) -> str:
        return self.name.lower().replace(" ", "-")


def write(family: Family, folder: Path) -> Path:
    """The checkpoint, written where it is not yet; two calls write the same bytes."""
    torch.manual_seed(0)
    model, processor = family.parts()
    _spread(model, processor.tokenizer, spaced=family.spaced)
    model.generation_config = hf.GenerationConfig(
        eos_token_id=processor.tokenizer.eos_token_id, pad_token_id=processor.tokenizer.pad_token_id
    )
    shutil.rmtree(folder, ignore_errors=True)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    if family.named_tower:
        _rename_tower(folder / "model.safetensors")
    return folder


def sayable(tokenizer: Any, *, spaced: bool) -> list[int]:
    """Tokens of which any run is, as text, tokenised to that same run again.

    They are words with a space before them, or where a template puts none before an answer, capital
    letters and digits, which no merge joins.
    """
    space = tokenizer.convert_ids_to_tokens(tokenizer(" a")["input_ids"])[-1][0]
    found = []
    for token, i in tokenizer.get_vocab().items():
        text = token.replace(space, " ")
        word = text[1:].isalpha() and text[1:].isascii() and text[0] == " "
        letter = len(text) == 1 and text.isascii() and (text.isupper() or text.isdigit())
        if (word if spaced else letter) and _alone(tokenizer, text) == [i]:
            found.append(i)
    assert len(found) >= 20, len(found)
    return sorted(found)


def _alone(tokenizer: Any, text: str) -> list[int]:
    """A text's ids where it follows other text."""
    prefix, whole = (
        tokenizer(start, add_special_tokens=False)["input_ids"] for start in (".", f".{text}")
    )
    assert whole[: len(prefix)] == prefix
    ids: list[int] = whole[len(prefix) :]
    return ids


@torch.no_grad()
def _spread(model: Any, tokenizer: Any, *, spaced: bool) -> None:
    """Weights that keep the scale of what passes through them, so that every part has its say.

    A library's own initial weights are so small that a random model predicts all tokens alike,
    whatever it sees. Replies are made of `sayable` tokens: the logits of others are small.
    """
    for name, weight in model.named_parameters():
        if "embed" in name or "position" in name or "token" in name:
            weight.normal_(std=0.5)
        elif weight.ndim >= 2:
            weight.normal_(std=weight[0].numel() ** -0.5)
        elif name.endswith("newline"):
            weight.normal_()
        else:
            weight.add_(0.1 * torch.randn_like(weight))
    head = model.get_output_embeddings().weight
    # Where it is the embedding too, a token would else be followed by itself for ever.
    tied = head is model.get_input_embeddings().weight
    head.normal_(std=(1 if tied else 3) * head.shape[1] ** -0.5)
    quiet = torch.ones(len(head), dtype=torch.bool)
    quiet[sayable(tokenizer, spaced=spaced)] = False
    head[quiet] *= 0.1


def _rename_tower(file: Path) -> None:
    """Puts back the level of the vision tower's names that transformers 5 drops.

    The published checkpoints have it, and vLLM 0.32 refuses those without; transformers reads both.
    """
    weights = load_file(file)
    renamed = {
        name.replace("vision_tower.", "vision_tower.vision_model."): weight
        for name, weight in weights.items()
    }
    save_file(renamed, file, metadata={"format": "pt"})


LLAMA_2 = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def llava_1_5() -> tuple[Any, Any]:
    tokenizer = pieces(
        [*LLAMA_2.values(), "<image>"],
        begin="<s>",
        roles={**LLAMA_2, "image_token": "<image>"},
        leading_space=True,
    )
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
        text_config=hf.LlamaConfig(**TEXT, **_ids(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    return hf.LlavaForConditionalGeneration(config), processor


def llava_next() -> tuple[Any, Any]:
    """The Mistral one; an image is seen whole and, enlarged, in two to four parts."""
    tokenizer = pieces(
        [*LLAMA_2.values(), "<image>"],
        begin="<s>",
        roles={**LLAMA_2, "image_token": "<image>"},
        leading_space=True,
    )
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
        text_config=hf.MistralConfig(**TEXT, **_ids(tokenizer), sliding_window=None),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pinpoints,
        image_seq_length=16,
    )
    return hf.LlavaNextForConditionalGeneration(config), processor


def _chatml(*others: str, **roles: str) -> Any:
    return byte_level(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *others],
        roles={"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", **roles},
    )


QWEN_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def _qwen_ids(tokenizer: Any) -> dict[str, int]:
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return dict(zip(names, tokenizer.convert_tokens_to_ids(QWEN_VISION), strict=True))


def qwen_2_5_vl() -> tuple[Any, Any]:
    """Images at their own size: 4 to 36 tokens of 16 x 16 pixels; windows in the vision tower."""
    tokenizer = _chatml(*QWEN_VISION)
    size = {"shortest_edge": 32 * 32, "longest_edge": 96 * 96}
    processor = hf.Qwen2_5_VLProcessor(
        hf.Qwen2VLImageProcessor(patch_size=8, size=size),
        tokenizer,
        Qwen2VLVideoProcessor(patch_size=8),
        chat_template=templates.QWEN_2_5_VL,
    )
    text = {key: value for key, value in TEXT.items() if key != "head_dim"}
    config = hf.Qwen2_5_VLConfig(
        text_config={
            **text,
            **_ids(tokenizer),
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
        **_qwen_ids(tokenizer),
    )
    return hf.Qwen2_5_VLForConditionalGeneration(config), processor


def qwen_3_vl() -> tuple[Any, Any]:
    """As Qwen2.5-VL, with features of two vision layers added to the first text layers."""
    tokenizer = _chatml(*QWEN_VISION)
    size = {"shortest_edge": 32 * 32, "longest_edge": 96 * 96}
    processor = hf.Qwen3VLProcessor(
        hf.Qwen2VLImageProcessor(patch_size=8, size=size),
        tokenizer,
        hf.Qwen3VLVideoProcessor(patch_size=8),
        chat_template=templates.QWEN_3_VL,
    )
    config = hf.Qwen3VLConfig(
        text_config={
            **TEXT,
            **_ids(tokenizer),
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
        **_qwen_ids(tokenizer),
    )
    return hf.Qwen3VLForConditionalGeneration(config), processor


def internvl_3() -> tuple[Any, Any]:
    """An image is cut into up to four tiles of 32 x 32 pixels, 4 tokens each, and a thumbnail."""
    roles = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = _chatml(*roles.values(), **roles)
    processor = hf.InternVLProcessor(
        hf.GotOcr2ImageProcessor(
            size={"height": 32, "width": 32}, crop_to_patches=True, min_patches=1, max_patches=4
        ),
        tokenizer,
        hf.InternVLVideoProcessor(size={"height": 32, "width": 32}),
        image_seq_length=4,
        chat_template=templates.INTERNVL,
    )
    text = {key: value for key, value in TEXT.items() if key != "head_dim"}
    config = hf.InternVLConfig(
        vision_config=hf.InternVLVisionConfig(
            **VISION, image_size=[32, 32], patch_size=[8, 8], attention_bias=True
        ),
        text_config=hf.Qwen2Config(**text, **_ids(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    return hf.InternVLForConditionalGeneration(config), processor


CELLS = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
IDEFICS = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *CELLS]
IDEFICS_IMAGES = {
    "size": {"longest_edge": 64},
    "max_image_size": {"longest_edge": 32},
}


def _idefics(kind: str, tokenizer: Any) -> Any:
    """A config of either kind; an image part of 32 x 32 pixels gives 4 tokens."""
    text = hf.LlamaConfig(**TEXT, **_ids(tokenizer))
    config, vision = {
        "idefics3": (hf.Idefics3Config, {}),
        "smolvlm": (hf.SmolVLMConfig, {}),
    }[kind]
    return config(
        vision_config={**VISION, **vision, "image_size": 32, "patch_size": 8},
        text_config=text,
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )


def idefics_3() -> tuple[Any, Any]:
    """Images are seen whole only, as where splitting is turned off."""
    tokenizer = byte_level(
        ["<|begin_of_text|>", "<|end_of_text|>", *IDEFICS],
        begin="<|begin_of_text|>",
        roles={
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<end_of_utterance>",
            "pad_token": "<|end_of_text|>",
        },
    )
    processor = hf.Idefics3Processor(
        hf.Idefics3ImageProcessor(**IDEFICS_IMAGES, do_image_splitting=False),
        tokenizer,
        image_seq_len=4,
        chat_template=templates.IDEFICS_3,
    )
    return hf.Idefics3ForConditionalGeneration(_idefics("idefics3", tokenizer)), processor


def smolvlm() -> tuple[Any, Any]:
    """Images are cut into up to four parts, each with its row and column before it."""
    tokenizer = byte_level(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *IDEFICS],
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
        hf.SmolVLMImageProcessor(**IDEFICS_IMAGES, do_image_splitting=True),
        tokenizer,
        hf.SmolVLMVideoProcessor(),
        image_seq_len=4,
        chat_template=templates.SMOLVLM,
    )
    return hf.SmolVLMForConditionalGeneration(_idefics("smolvlm", tokenizer)), processor


def gemma_3() -> tuple[Any, Any]:
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
    tokenizer = pieces(
        [*roles.values(), "<start_of_turn>"],
        begin="<bos>",
        roles=roles,
        leading_space=False,
        others=NEWLINES,
    )
    processor = hf.Gemma3Processor(
        hf.Gemma3ImageProcessor(size={"height": 32, "width": 32}),
        tokenizer,
        image_seq_length=4,
        chat_template=templates.GEMMA_3,
    )
    of = tokenizer.convert_tokens_to_ids
    config = hf.Gemma3Config(
        vision_config={**VISION, "image_size": 32, "patch_size": 8, "vision_use_head": False},
        text_config={
            **TEXT,
            **_ids(tokenizer),
            "num_hidden_layers": 4,
            "query_pre_attn_scalar": TEXT["head_dim"],
            "sliding_window": 24,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        },
        mm_tokens_per_image=4,
        boi_token_index=of("<start_of_image>"),
        eoi_token_index=of("<end_of_image>"),
        image_token_index=of("<image_soft_token>"),
    )
    return hf.Gemma3ForConditionalGeneration(config), processor


def _ids(tokenizer: Any) -> dict[str, int | None]:
    """What a text config repeats of its tokenizer."""
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


FAMILIES = (
    Family(name="LLaVA-1.5", parts=llava_1_5, spaced=True, named_tower=True),
    Family(name="LLaVA-NeXT", parts=llava_next, spaced=True, named_tower=True),
    Family(name="Qwen2.5-VL", parts=qwen_2_5_vl, spaced=False),
    Family(name="Qwen3-VL", parts=qwen_3_vl, spaced=False),
    Family(name="InternVL3", parts=internvl_3, spaced=False),
    Family(name="Idefics3", parts=idefics_3, spaced=True),
    Family(name="SmolVLM", parts=smolvlm, spaced=True),
    Family(name="Gemma 3", parts=gemma_3, spaced=False, named_tower=True, both_ways=True),
)
