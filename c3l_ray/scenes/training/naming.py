"""Projector and word embeddings meet: each patch's projection points to the words of its cell.

What a contrastive pretraining gives to large models. After it, to look for a star is to look for
what is like the word.

Shape letters: N scenes, B scenes of a batch, C cells, P patches, D the width, A attributes of a
cell, W words, M patches that are looked at.
"""

import random

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from c3l_ray.scenes.draw import CELLS, COLOURS, SHAPES, SIZES
from c3l_ray.scenes.training.tower import cell_of_patch

NUM_SCENES = 32  # in a step
ROWS = tuple(dict.fromkeys(cell.split()[0] for cell in CELLS))
COLUMNS = tuple(dict.fromkeys(cell.split()[1] for cell in CELLS))


def naming_loss(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    features_NPD: Tensor,
    labels_NCA: Tensor,
    rng: random.Random,
) -> Tensor:
    """Negative log-likelihood of a patch's colour, shape, size, row and column, each among its own
    words' embeddings; a cell that holds nothing has only its place.
    """
    picked = rng.sample(range(len(features_NPD)), NUM_SCENES)
    cell_P = cell_of_patch()
    seen_MD = model.model.multi_modal_projector(features_NPD[picked].float()).flatten(0, 1)
    looks_MA = labels_NCA[picked][:, cell_P].flatten(0, 1) - 1  # -1 for nothing
    places_CA = torch.tensor(
        [[ROWS.index(row), COLUMNS.index(column)] for row, column in map(str.split, CELLS)]
    )
    places_MA = places_CA[cell_P].repeat(len(picked), 1)
    labels = [*looks_MA.unbind(-1), *places_MA.unbind(-1)]
    losses = []
    for words, label_M in zip((COLOURS, SHAPES, SIZES, ROWS, COLUMNS), labels, strict=True):
        ids_W = torch.tensor([tokenizer.convert_tokens_to_ids(f"▁{word}") for word in words])
        words_WD = model.get_input_embeddings()(ids_W)
        losses.append(F.cross_entropy(seen_MD @ words_WD.T, label_M, ignore_index=-1))
    return torch.stack(losses).sum()
