"""Patches learn the words of their cells."""

import random

import torch
from torch.nn import functional as F

from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.training.loop import make_muon
from c3l_ray.scenes.training.naming import naming_loss
from c3l_ray.scenes.training.tokenizer import list_training_texts, make_tokenizer
from c3l_ray.scenes.training.tower import NUM_CLASSES, cells_of_patches, label_cells
from c3l_ray.scenes.training.train_llava import make_llava


def test_patches_learn_the_words_of_what_they_show() -> None:
    torch.manual_seed(0)
    tokenizer = make_tokenizer(list_training_texts(), appends_end=False)
    model = make_llava(tokenizer)
    scenes = [draw_scene(seed) for seed in range(64)]
    labels_NCA = label_cells(scenes)
    # Features that hold what the labels say, and the place, each in a direction of its own.
    labels_NPA = labels_NCA[:, cells_of_patches()]
    one_hots = [F.one_hot(labels_NPA[..., a], n) for a, n in enumerate(NUM_CLASSES)]
    cells_PC = F.one_hot(cells_of_patches(), 6)
    known_NPK = torch.cat([*one_hots, cells_PC.expand(len(scenes), -1, -1)], dim=-1).float()
    features_NPD = known_NPK @ torch.randn(known_NPK.shape[-1], 128)
    rng = random.Random(0)
    optimizers = make_muon(model, 3e-3)
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
