"""Tiny random checkpoints of the families: their real classes, files and formats, our own weights.

`write_checkpoint` writes one into a folder; what is small about them is only their numbers.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from c3l_ray.inference.logit_transform import LogitTransform
from c3l_ray.model_config import Dtype
from tests.families import chatml, cohere, gemma, glm, granite, idefics, llava, minicpm

NO_PACKS = "scores without packing"


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model family.

    Attributes:
        name: as people say it.
        model_type: as its config says it.
        build: makes the model and the processor.
        spaced: whether its chat template puts a space before an answer.
        nested_tower: whether its files name the vision weights with a level that transformers
            drops.
        bidirectional_image: whether an image's tokens see later ones of that image too.
        text_image_end: whether vLLM embeds the end of an image by the text model's table, against
            the design, which has a table of the vision tower's for it.
        vllm_dtype: the precision in which vLLM computes it on a CPU.
        vllm_fails: whether vLLM's process ends at the first request, in that precision too.
        tolerance: of log-probabilities of vLLM and transformers, in nats; most differ by 5e-6.
        reply_start: what its replies begin with after the prompt, before the answer.
        transform: what it does to its logits after the output head.
        scorer_notes: a part of each note of the scorer at its start.
        marks: of a column of the table, a mark on the family's cell.
    """

    name: str
    model_type: str
    build: Callable[[], tuple[Any, Any]]
    spaced: bool
    nested_tower: bool = False
    bidirectional_image: bool = False
    text_image_end: bool = False
    vllm_dtype: Dtype = "float32"
    vllm_fails: bool = False
    tolerance: float = 1e-4
    reply_start: str = ""
    transform: LogitTransform = field(default_factory=LogitTransform)
    scorer_notes: tuple[str, ...] = ()
    marks: dict[str, str] = field(default_factory=dict)

    @property
    def packs(self) -> bool:
        return not any(NO_PACKS in note for note in self.scorer_notes)

    @property
    def slug(self) -> str:
        return self.name.lower().replace(" ", "-")


def write_checkpoint(family: Family, folder: Path) -> Path:
    """Writes the checkpoint into a folder, afresh; two calls write the same bytes."""
    torch.manual_seed(0)
    model, processor = family.build()
    _set_weights(model, processor.tokenizer, spaced=family.spaced)
    model.generation_config = hf.GenerationConfig(
        eos_token_id=processor.tokenizer.eos_token_id, pad_token_id=processor.tokenizer.pad_token_id
    )
    shutil.rmtree(folder, ignore_errors=True)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    if family.nested_tower:
        _nest_tower_names(folder / "model.safetensors")
    return folder


def stable_token_ids(tokenizer: Any, *, spaced: bool) -> list[int]:
    """Tokens of which any run is, as text, tokenised to that same run again.

    They are words with a space before them, or where a template puts none before an answer, capital
    letters and digits, which no merge joins.
    """
    space = tokenizer.convert_ids_to_tokens(tokenizer(" a")["input_ids"])[-1][0]
    stable_ids = []
    for token, i in tokenizer.get_vocab().items():
        text = token.replace(space, " ")
        is_word = text[1:].isalpha() and text[1:].isascii() and text[0] == " "
        is_letter = len(text) == 1 and text.isascii() and (text.isupper() or text.isdigit())
        if (is_word if spaced else is_letter) and _ids_after_text(tokenizer, text) == [i]:
            stable_ids.append(i)
    assert len(stable_ids) >= 20, len(stable_ids)
    return sorted(stable_ids)


def _ids_after_text(tokenizer: Any, text: str) -> list[int]:
    """A text's ids where it follows other text."""
    prefix, whole = (
        tokenizer(start, add_special_tokens=False)["input_ids"] for start in (".", f".{text}")
    )
    assert whole[: len(prefix)] == prefix
    ids: list[int] = whole[len(prefix) :]
    return ids


@torch.no_grad()
def _set_weights(model: Any, tokenizer: Any, *, spaced: bool) -> None:
    """Weights that keep the scale of what passes through them, so that every part has its say.

    A library's own initial weights are so small that a random model predicts all tokens alike,
    whatever it sees. Replies are made of `stable_token_ids`: the logits of others are small.
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
    # Where it is the embedding too, a token would otherwise be followed by itself for ever.
    is_tied = head is model.get_input_embeddings().weight
    head.normal_(std=(1 if is_tied else 3) * head.shape[1] ** -0.5)
    is_unstable = torch.ones(len(head), dtype=torch.bool)
    is_unstable[stable_token_ids(tokenizer, spaced=spaced)] = False
    head[is_unstable] *= 0.1


def _nest_tower_names(file: Path) -> None:
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
    Family(
        name="LLaVA-1.5",
        model_type="llava",
        build=llava.build_llava_1_5,
        spaced=True,
        nested_tower=True,
    ),
    Family(
        name="LLaVA-NeXT",
        model_type="llava_next",
        build=llava.build_llava_next,
        spaced=True,
        nested_tower=True,
    ),
    Family(
        name="Qwen2.5-VL", model_type="qwen2_5_vl", build=chatml.build_qwen_2_5_vl, spaced=False
    ),
    Family(name="Qwen3-VL", model_type="qwen3_vl", build=chatml.build_qwen_3_vl, spaced=False),
    Family(name="InternVL3", model_type="internvl", build=chatml.build_internvl_3, spaced=False),
    Family(name="Idefics3", model_type="idefics3", build=idefics.build_idefics_3, spaced=True),
    Family(name="SmolVLM", model_type="smolvlm", build=idefics.build_smolvlm, spaced=True),
    Family(
        name="Gemma 3",
        model_type="gemma3",
        build=gemma.build_gemma_3,
        spaced=False,
        nested_tower=True,
        bidirectional_image=True,
        marks={"agree to": " *"},
    ),
    Family(
        name="Gemma 4",
        model_type="gemma4",
        build=gemma.build_gemma_4,
        spaced=False,
        transform=LogitTransform(cap=gemma.CAP),
    ),
    Family(
        name="Qwen3.5",
        model_type="qwen3_5",
        build=chatml.build_qwen_3_5,
        spaced=False,
        vllm_dtype="bfloat16",
        vllm_fails=True,
        scorer_notes=(f"{NO_PACKS}, which is slower: it has layers of linear_attention",),
        marks={"generates in vLLM": " §", "packed scoring": " †", "comes back": " §"},
    ),
    Family(name="GLM-4.1V", model_type="glm4v", build=glm.build_glm_4_1v, spaced=False),
    Family(
        name="GLM-4.6V",
        model_type="glm46v",
        build=glm.build_glm_4_6v,
        spaced=False,
        reply_start="\n",
    ),
    Family(
        name="Granite 4 Vision",
        model_type="granite4_vision",
        build=granite.build_granite_4_vision,
        spaced=False,
        nested_tower=True,
        transform=LogitTransform(scale=1 / granite.LOGITS_SCALING),
    ),
    Family(
        name="Gemma 3n",
        model_type="gemma3n",
        build=gemma.build_gemma_3n,
        spaced=False,
        text_image_end=True,
        tolerance=5e-3,  # what is zero hangs on a threshold
        transform=LogitTransform(cap=gemma.CAP),
        marks={"agree to": " \u2021"},
    ),
    Family(
        name="LLaVA-OneVision",
        model_type="llava_onevision",
        build=llava.build_llava_onevision,
        spaced=False,
        nested_tower=True,
    ),
    Family(
        name="MiniCPM-V 4.6",
        model_type="minicpmv4_6",
        build=minicpm.build_minicpm_v_4_6,
        spaced=False,
        vllm_dtype="bfloat16",
        vllm_fails=True,
        scorer_notes=(
            "scores one turn at a time, which is slower: ",
            f"{NO_PACKS}, which is slower: it has layers of linear_attention",
        ),
        marks={"generates in vLLM": " §", "packed scoring": " †", "comes back": " §"},
    ),
    Family(
        name="Cohere2 Vision",
        model_type="cohere2_vision",
        build=cohere.build_cohere_2_vision,
        spaced=False,
        nested_tower=True,
        transform=LogitTransform(scale=cohere.LOGIT_SCALE),
    ),
    Family(
        name="Aya Vision",
        model_type="aya_vision",
        build=cohere.build_aya_vision,
        spaced=False,
        transform=LogitTransform(scale=cohere.LOGIT_SCALE),
    ),
    Family(name="Qwen2-VL", model_type="qwen2_vl", build=chatml.build_qwen_2_vl, spaced=False),
)
