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

from tests.families import chatml, gemma, idefics, llava


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
    """Writes the checkpoint into a folder, afresh; two calls write the same bytes."""
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


FAMILIES = (
    Family(name="LLaVA-1.5", parts=llava.llava_1_5, spaced=True, named_tower=True),
    Family(name="LLaVA-NeXT", parts=llava.llava_next, spaced=True, named_tower=True),
    Family(name="Qwen2.5-VL", parts=chatml.qwen_2_5_vl, spaced=False),
    Family(name="Qwen3-VL", parts=chatml.qwen_3_vl, spaced=False),
    Family(name="InternVL3", parts=chatml.internvl_3, spaced=False),
    Family(name="Idefics3", parts=idefics.idefics_3, spaced=True),
    Family(name="SmolVLM", parts=idefics.smolvlm, spaced=True),
    Family(name="Gemma 3", parts=gemma.gemma_3, spaced=False, named_tower=True, both_ways=True),
)
