"""Aligns the projector with the word embeddings: a patch's projection points to its cell's words.

Large models have this from contrastive pretraining. After it, a patch of a star is like the word
"star", so that looking for a star is looking for what is like the word.

Shape letters: N scenes, B scenes of a batch, C cells, P patches, D the width, A attributes of a
cell, W words, M patches of a batch.
"""

import random

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from c3l_ray.scenes.draw import CELLS, COLOURS, SHAPES, SIZES
from c3l_ray.scenes.training.tower import cells_of_patches

SCENES_PER_STEP = 32
ROWS = tuple(dict.fromkeys(cell.split()[0] for cell in CELLS))
COLUMNS = tuple(dict.fromkeys(cell.split()[1] for cell in CELLS))


def naming_loss(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    features_NPD: Tensor,
    labels_NCA: Tensor,
    rng: random.Random,
) -> Tensor:
    """Negative log-likelihood of a patch's colour, shape, size, row and column.

    Each is told among the embeddings of its own words. A cell that holds nothing has only a row and
    a column.

    Args:
        model: whose projector and embeddings are trained.
        tokenizer: with every word as one token.
        features_NPD: of the scenes' patches.
        labels_NCA: of the scenes, as `label_cells` makes them.
        rng: that a batch is drawn with.
    """
    batch = rng.sample(range(len(features_NPD)), SCENES_PER_STEP)
    cell_P = cells_of_patches()
    patches_MD = model.model.multi_modal_projector(features_NPD[batch].float()).flatten(0, 1)
    looks_MA = labels_NCA[batch][:, cell_P].flatten(0, 1) - 1  # -1 for nothing
    places_CA = torch.tensor(
        [[ROWS.index(row), COLUMNS.index(column)] for row, column in map(str.split, CELLS)]
    )
    places_MA = places_CA[cell_P].repeat(len(batch), 1)
    labels = [*looks_MA.unbind(-1), *places_MA.unbind(-1)]
    losses = []
    for words, label_M in zip((COLOURS, SHAPES, SIZES, ROWS, COLUMNS), labels, strict=True):
        ids_W = torch.tensor([tokenizer.convert_tokens_to_ids(f"▁{word}") for word in words])
        words_WD = model.get_input_embeddings()(ids_W)
        losses.append(F.cross_entropy(patches_MD @ words_WD.T, label_M, ignore_index=-1))
    return torch.stack(losses).sum()
