"""The tokenizers know the words of the training texts."""

import random

from c3l_ray.methods import c3l
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import draw_turn
from c3l_ray.scenes.training.tokenizer import list_training_texts, make_tokenizer


def test_every_word_of_every_turn_is_known() -> None:
    tokenizer = make_tokenizer(list_training_texts(), appends_end=False)
    rng = random.Random(5)
    for seed in range(5000, 5300):
        for kind in c3l.KINDS:
            question, answer = draw_turn(draw_scene(seed), kind, rng)
            ids = tokenizer(f" {question} {answer}")["input_ids"]
            assert tokenizer.unk_token_id not in ids
