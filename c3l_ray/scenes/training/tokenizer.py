"""The tiny models' tokenizers, whose tokens are the whole words of the training texts."""

import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from c3l_ray.methods import c3l, vigc
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import draw_turn

SPECIAL_TOKENS = {
    "pad_token": "<pad>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
}
IMAGE_TOKEN = "<image>"


def make_tokenizer(texts: list[str], *, appends_end: bool) -> PreTrainedTokenizerFast:
    """A tokenizer of the whole words of these texts, which may append `</s>` to what it reads."""
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="never", split=True),
            pre_tokenizers.Split(Regex(r"[^\w\s▁]"), "isolated"),
        ]
    )
    words = sorted({piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)})
    specials = [*SPECIAL_TOKENS.values(), IMAGE_TOKEN]
    vocabulary = {token: i for i, token in enumerate([*specials, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never", split=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if appends_end else "<s> $A",
        special_tokens=[("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **SPECIAL_TOKENS,
        extra_special_tokens={"image_token": IMAGE_TOKEN},
        clean_up_tokenization_spaces=False,
    )


def list_training_texts() -> list[str]:
    """Texts that together hold every word of the training texts."""
    texts = ["USER:", " ASSISTANT:", " Question: Answer:"]
    instructions = [
        c3l.format_instruction(wording)
        for wordings in vigc.TAUGHT_INSTRUCTIONS.values()
        for wording in wordings
    ]
    texts += [f" {instruction}" for instruction in instructions]
    rng = random.Random(0)
    for seed in range(2000):
        for kind in c3l.KINDS:
            question, answer = draw_turn(draw_scene(seed), kind, rng)
            texts += [f" {question}", f" {answer}"]
    texts += [
        f" {vigc.continuation_message(style, step, instruction, question, answer)}"
        for style in vigc.CONTINUATIONS
        for step in vigc.STOPS
        for instruction in instructions
    ]
    texts.append(f" {vigc.END_WORD}")
    return texts
