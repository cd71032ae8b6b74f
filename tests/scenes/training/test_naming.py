"""Words and patches meet."""

import random

import torch

from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.training import train_llava
from c3l_ray.scenes.training.loop import muon
from c3l_ray.scenes.training.naming import naming_loss
from c3l_ray.scenes.training.tokenizer import all_texts, word_tokenizer
from c3l_ray.scenes.training.tower import PARTS, cell_labels, cell_of_patch


def test_patches_learn_the_words_of_what_they_show() -> None:
    torch.manual_seed(0)
    tokenizer = word_tokenizer(all_texts(), end=False)
    model = train_llava.new_llava(tokenizer)
    scenes = [draw_scene(seed) for seed in range(64)]
    labels_NCA = cell_labels(scenes)
    # Features that hold what the labels say, and the place, each in a direction of its own.
    held_NPA = labels_NCA[:, cell_of_patch()]
    parts = [torch.nn.functional.one_hot(held_NPA[..., a], n) for a, n in enumerate(PARTS)]
    place_P6 = torch.nn.functional.one_hot(cell_of_patch(), 6)
    known = torch.cat([*parts, place_P6.expand(len(scenes), -1, -1)], dim=-1).float()
    features_NPD = known @ torch.randn(known.shape[-1], 128)
    rng = random.Random(0)
    optimizers = muon(model, 3e-3)
    losses = []
    for _ in range(120):
        loss = naming_loss(model, tokenizer, features_NPD, labels_NCA, rng)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    assert 5 < losses[0] < 8  # the sum of ln 6, 5, 2, 2 and 3 is 5.9
    assert losses[-1] < 0.5
