"""Small tokenizers of the two kinds that the families use, each with merges of its own.

Both decode any text to what was encoded; what is not in their vocabulary becomes bytes.
"""

import json
import string
from collections.abc import Sequence

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from c3l_ray.methods import c3l
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import describe_scene

NEWLINES = tuple("\n" * count for count in range(1, 5))
NUM_MERGED = 240  # pieces beside the 256 bytes and the family's own tokens
WORDS = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+")
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def train_byte_level_tokenizer(
    specials: Sequence[str], *, bos: str | None = None, roles: dict[str, str]
) -> PreTrainedTokenizerFast:
    """Bytes, merged inside words: the kind of Qwen, InternVL, Llama 3 and SmolLM.

    Args:
        specials: the family's own tokens.
        bos: the one that the tokenizer puts before a text, if any.
        roles: which special token is what, such as {"eos_token": "</s>"}.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(WORDS, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + NUM_MERGED,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return _add_specials(tokenizer, specials, bos, roles)


def train_piece_tokenizer(
    specials: Sequence[str],
    *,
    bos: str,
    roles: dict[str, str],
    leading_space: bool,
    unsplit: Sequence[str] = (),
) -> PreTrainedTokenizerFast:
    """Letters, merged, with bytes for unknown ones: the SentencePiece kind of Llama 2 and Gemma.

    Args:
        specials: the family's own tokens.
        bos: the one that the tokenizer puts before a text.
        roles: which special token is what.
        leading_space: put a space before each text between special tokens, as Llama 2 does.
        unsplit: tokens that are plain text, but never split or merged.
    """
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "removed"), pre_tokenizers.Metaspace(prepend_scheme="never")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_MERGED,
        initial_alphabet=list(string.ascii_letters + string.digits + string.punctuation),
        show_progress=False,
    )
    trained.train_from_iterator(_corpus(), trainer)
    model = json.loads(trained.to_str())["model"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: i for i, piece in enumerate([*BYTES, *model["vocab"]])},
            merges=[tuple(merge) for merge in model["merges"]],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if leading_space else spaces
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *([decoders.Strip(" ", 1, 0)] if leading_space else []),
        ]
    )
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in unsplit])
    return _add_specials(tokenizer, specials, bos, roles)


def _add_specials(
    tokenizer: Tokenizer, specials: Sequence[str], bos: str | None, roles: dict[str, str]
) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens(
        [AddedToken(special, normalized=False, special=True) for special in specials]
    )
    if bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    standard_roles = ("bos_token", "eos_token", "pad_token", "unk_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{role: token for role, token in roles.items() if role in standard_roles},
        extra_special_tokens={
            role: token for role, token in roles.items() if role not in standard_roles
        },
        clean_up_tokenization_spaces=False,
    )


def _corpus() -> list[str]:
    """The texts that the merges are trained on."""
    instructions = [wording for wordings in c3l.INSTRUCTIONS.values() for wording in wordings]
    return [*instructions, *(describe_scene(draw_scene(seed)) for seed in range(60))]
