"""LLaVAs of random weights and chosen sizes, for benchmarks."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from c3l_ray.scenes import world

PATCH_PX = 14


@dataclass(frozen=True)
class LlavaSize:
    """A random LLaVA: its language half, and its vision tower."""

    text: dict[str, int]
    vision: dict[str, int]


SIZES = {
    "tiny": LlavaSize(
        {"hidden_size": 160, "intermediate_size": 448, "num_hidden_layers": 4, "num_heads": 5},
        {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_heads": 4},
    ),
    "100m": LlavaSize(
        {"hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 12, "num_heads": 10},
        {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_heads": 6},
    ),
}
VOCABULARY = 16_000


def write_checkpoint(
    folder: Path,
    size: LlavaSize,
    num_image_tokens: int,
    *,
    vocabulary: int = VOCABULARY,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Path:
    """A random LLaVA with the shipped tokenizer, whose images have this many tokens.

    Args:
        folder: to write into.
        size: of the model.
        num_image_tokens: of an image.
        vocabulary: logits of a token.
        dtype: of the weights.
        device: that draws them.
    """
    side_px = round(num_image_tokens**0.5) * PATCH_PX
    processor = AutoProcessor.from_pretrained(world.LLAVA)
    processor.image_processor.size = {"height": side_px, "width": side_px}
    processor.patch_size = PATCH_PX
    torch.manual_seed(0)

    def config_fields(shape: dict[str, int]) -> dict[str, int]:
        shape = dict(shape)
        return {"num_attention_heads": shape.pop("num_heads"), **shape}

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            image_size=side_px, patch_size=PATCH_PX, **config_fields(size.vision)
        ),
        text_config=LlamaConfig(
            vocab_size=vocabulary, max_position_embeddings=4096, **config_fields(size.text)
        ),
        image_token_index=processor.tokenizer.convert_tokens_to_ids(processor.image_token),
        vision_feature_layer=-1,
        image_seq_length=num_image_tokens,
    )
    with torch.device(device):
        model = LlavaForConditionalGeneration._from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
