"""The tiny models' tokenizers: whole words, all of those that training meets."""

import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from c3l_ray.methods import c3l, vigc
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import draw_turn

SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
IMAGE_TOKEN = "<image>"


def word_tokenizer(texts: list[str], *, end: bool) -> PreTrainedTokenizerFast:
    """A tokenizer of the whole words of these texts; with `end` it closes them with `</s>`."""
    pieces = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="never", split=True),
            pre_tokenizers.Split(Regex(r"[^\w\s▁]"), "isolated"),
        ]
    )
    words = sorted({piece for text in texts for piece, _ in pieces.pre_tokenize_str(text)})
    specials = [*SPECIAL.values(), IMAGE_TOKEN]
    vocabulary = {token: i for i, token in enumerate([*specials, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never", split=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if end else "<s> $A",
        special_tokens=[("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **SPECIAL,
        extra_special_tokens={"image_token": IMAGE_TOKEN},
        clean_up_tokenization_spaces=False,
    )


def all_texts() -> list[str]:
    """Texts that between them hold every word that training will meet, at least once."""
    texts = ["USER:", " ASSISTANT:", " Question: Answer:"]
    asked = [c3l.format_instruction(wording) for kind in vigc.TAUGHT_INSTRUCTIONS.values() for wording in kind]
    texts += [f" {each}" for each in asked]
    rng = random.Random(0)
    for seed in range(2000):
        for kind in c3l.KINDS:
            question, answer = draw_turn(draw_scene(seed), kind, rng)
            texts += [f" {question}", f" {answer}"]
    texts += [
        f" {vigc.go_on(style, unit, each, question, answer)}"
        for style in vigc.CONTINUATIONS
        for unit in vigc.STOPS
        for each in asked
    ]
    texts.append(f" {vigc.DONE}")
    return texts
