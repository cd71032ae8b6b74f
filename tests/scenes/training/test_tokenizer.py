"""The tokenizers know what training says."""

import random

from c3l_ray.methods import c3l
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import draw_turn
from c3l_ray.scenes.training.tokenizer import all_texts, word_tokenizer


def test_every_word_of_every_turn_is_known() -> None:
    tokenizer = word_tokenizer(all_texts(), end=False)
    rng = random.Random(5)
    for seed in range(5000, 5300):
        for kind in c3l.KINDS:
            question, answer = draw_turn(draw_scene(seed), kind, rng)
            ids = tokenizer(f" {question} {answer}")["input_ids"]
            assert tokenizer.unk_token_id not in ids
