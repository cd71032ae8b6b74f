"""The LLaVA's vision tower: what it is taught, what it then says of scenes, and a probe of that.

Shape letters: N scenes, B scenes of a batch, C cells, P patches, D the tower's width, A attributes
of a cell (colour, shape, size), K classes, M cells that are looked at.
"""

import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel, LlavaForConditionalGeneration

from c3l_ray.scenes.draw import CELL_PX, CELLS, COLOURS, NUM_COLUMNS, SHAPES, SIZES, Scene, World, draw_scene, render

FIRST_SEED = 10_000_000  # far from the seeds of the scenes that users draw
PROBE_SEED = 70_000_000
PATCH_PX = 16
PARTS = (len(COLOURS) + 1, len(SHAPES) + 1, len(SIZES) + 1)  # what a cell holds, or nothing
# Rows of cells, rows of patches in a cell, columns of cells, columns of patches in a cell.
GRID = (len(CELLS) // NUM_COLUMNS, CELL_PX[1] // PATCH_PX, NUM_COLUMNS, CELL_PX[0] // PATCH_PX)


def draw(num_scenes: int, drawn: World) -> tuple[list[Scene], Tensor]:
    """The scenes of a world to train on, and their pixels in 8 bits: [N, 3, height, width]."""
    scenes = [draw_scene(FIRST_SEED + i, drawn) for i in range(num_scenes)]
    pixels_NHWC = np.stack([np.asarray(render(scene)) for scene in scenes])
    print(f"drew {len(scenes)} scenes of the {drawn.name} world", flush=True)
    return scenes, torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2).contiguous()


def tower_loss(
    tower: CLIPVisionModel,
    heads: nn.Linear,
    pixels_NCHW: Tensor,
    labels_NCA: Tensor,
    rng: random.Random,
) -> Tensor:
    """Every patch tells what its whole cell holds, colour, shape and size or nothing, and which
    cell that is. So the language half finds a thing, and counts things, wherever it looks.
    """
    picked = torch.tensor(rng.sample(range(len(pixels_NCHW)), 64))
    with torch.autocast("cpu", torch.bfloat16):
        patches_BPD = tower(scaled(pixels_NCHW[picked])).last_hidden_state[:, 1:]
        logits_MK = heads(patches_BPD).flatten(0, 1).float()
    cell_P = cell_of_patch()
    labels_MA = labels_NCA[picked][:, cell_P].flatten(0, 1)
    places_M = cell_P.repeat(len(picked))
    labels = [*labels_MA.unbind(-1), places_M]
    losses = [
        F.cross_entropy(part_MK, part_M)
        for part_MK, part_M in zip(logits_MK.split([*PARTS, len(CELLS)], -1), labels, strict=True)
    ]
    return torch.stack(losses).sum()


def cell_of_patch() -> Tensor:
    """The index of the cell that each patch lies in: [P]."""
    rows, high, columns, wide = GRID
    grid = torch.arange(len(CELLS)).reshape(rows, 1, columns, 1).expand(rows, high, columns, wide)
    return grid.flatten()


def by_cell(patches_BPD: Tensor) -> Tensor:
    """Mean of the patches of each of the six cells: [B, 6, D]."""
    batch, _, width = patches_BPD.shape
    return patches_BPD.reshape(batch, *GRID, width).mean(dim=(2, 4)).flatten(1, 2)


def cell_labels(scenes: list[Scene]) -> Tensor:
    """Colour, shape and size of what is in each cell, counted from 1, and 0 for nothing."""
    labels_NCA = torch.zeros(len(scenes), len(CELLS), len(PARTS), dtype=torch.long)
    for row, scene in enumerate(scenes):
        for thing in scene.things:
            look = (
                list(COLOURS).index(thing.colour),
                SHAPES.index(thing.shape),
                list(SIZES).index(thing.size),
            )
            labels_NCA[row, CELLS.index(thing.cell)] = torch.tensor(look) + 1
    return labels_NCA


@torch.no_grad()
def features(tower: CLIPVisionModel, pixels_NCHW: Tensor) -> Tensor:
    """Patch features of every scene, computed once since the tower is frozen: [N, P, D]."""
    batches = pixels_NCHW.split(500)
    return torch.cat([tower(scaled(batch)).last_hidden_state[:, 1:].half() for batch in batches])


def scaled(pixels_NCHW: Tensor) -> Tensor:
    """8 bits as the processors give them: -1 to 1."""
    return pixels_NCHW.float() / 127.5 - 1


def probe(llava: Path, num_train: int = 6_000, num_test: int = 2_000) -> dict[str, float]:
    """How well a linear probe on the frozen tower's features tells the things of unbiased scenes.

    The share of colours, shapes and sizes that are right in cells which hold a thing, on scenes
    that neither the tower nor the probe was trained on.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tower = LlavaForConditionalGeneration.from_pretrained(llava).model.vision_tower.eval()
    scenes = [draw_scene(PROBE_SEED + i) for i in range(num_train + num_test)]
    pixels_NHWC = np.stack([np.asarray(render(scene)) for scene in scenes])
    pixels_NCHW = torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2)
    full_NC = (labels_NCA := cell_labels(scenes))[..., 0] > 0
    owner_M = torch.arange(len(scenes)).unsqueeze(1).expand_as(full_NC)[full_NC]
    features_MD = by_cell(features(tower, pixels_NCHW).float())[full_NC]
    labels_MA = labels_NCA[full_NC]
    train_M = owner_M < num_train
    heads = nn.Linear(features_MD.shape[1], sum(PARTS))
    optimizer = torch.optim.LBFGS(heads.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = heads(features_MD[train_M]).split(PARTS, dim=-1)
        losses = [F.cross_entropy(lk, labels_MA[train_M, a]) for a, lk in enumerate(logits)]
        loss = torch.stack(losses).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    right = {}
    with torch.no_grad():
        for a, logits_MK in enumerate(heads(features_MD[~train_M]).split(PARTS, dim=-1)):
            hits = logits_MK.argmax(-1) == labels_MA[~train_M, a]
            right[("colour", "shape", "size")[a]] = hits.float().mean().item()
    return right
