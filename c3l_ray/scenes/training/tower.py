"""The LLaVA's vision tower: its supervised training, its features, and a probe of them.

Shape letters: N scenes, B scenes of a batch, C cells, P patches, D the tower's width, A attributes
of a cell (colour, shape, size), K classes, M cells that are looked at.
"""

import logging
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel, LlavaForConditionalGeneration

from c3l_ray.scenes.draw import CELLS, COLOURS, NUM_COLUMNS, SHAPES, SIZES, Scene, World, draw_scene
from c3l_ray.scenes.render import CELL_PX, render_scene

FIRST_SEED = 10_000_000  # far from the seeds of the scenes that users draw
PROBE_SEED = 70_000_000
PATCH_PX = 16
ATTRIBUTES = ("colour", "shape", "size")
NUM_CLASSES = (len(COLOURS) + 1, len(SHAPES) + 1, len(SIZES) + 1)  # of each attribute, or nothing
# Rows of cells, rows of patches in a cell, columns of cells, columns of patches in a cell.
GRID = (len(CELLS) // NUM_COLUMNS, CELL_PX[1] // PATCH_PX, NUM_COLUMNS, CELL_PX[0] // PATCH_PX)

log = logging.getLogger(__name__)


def draw_training_scenes(num_scenes: int, world: World) -> tuple[list[Scene], Tensor]:
    """Draws scenes of a world to train on, and their pixels in 8 bits: [N, 3, height, width]."""
    scenes = [draw_scene(FIRST_SEED + i, world) for i in range(num_scenes)]
    pixels_NHWC = np.stack([np.asarray(render_scene(scene)) for scene in scenes])
    log.info("drew %d scenes of the %s world", len(scenes), world.name)
    return scenes, torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2).contiguous()


def tower_loss(
    tower: CLIPVisionModel,
    heads: nn.Linear,
    pixels_NCHW: Tensor,
    labels_NCA: Tensor,
    rng: random.Random,
) -> Tensor:
    """Cross-entropy of what every patch tells about its cell, summed over what it tells.

    A patch tells the colour, shape and size of the thing in its whole cell, or that there is
    nothing, and which cell it is. So the language half can find and count things wherever it looks.

    Args:
        tower: to train.
        heads: linear heads of all attributes and of the cell, side by side.
        pixels_NCHW: of the scenes, in 8 bits.
        labels_NCA: of the scenes, as `label_cells` makes them.
        rng: that a batch is drawn with.
    """
    batch_B = torch.tensor(rng.sample(range(len(pixels_NCHW)), 64))
    with torch.autocast("cpu", torch.bfloat16):
        patches_BPD = tower(scale_pixels(pixels_NCHW[batch_B])).last_hidden_state[:, 1:]
        logits_MK = heads(patches_BPD).flatten(0, 1).float()
    cell_P = cells_of_patches()
    labels_MA = labels_NCA[batch_B][:, cell_P].flatten(0, 1)
    cells_M = cell_P.repeat(len(batch_B))
    logits = logits_MK.split([*NUM_CLASSES, len(CELLS)], -1)
    labels = [*labels_MA.unbind(-1), cells_M]
    losses = [
        F.cross_entropy(head_logits_MK, label_M)
        for head_logits_MK, label_M in zip(logits, labels, strict=True)
    ]
    return torch.stack(losses).sum()


def cells_of_patches() -> Tensor:
    """The index of the cell that each patch lies in: [P]."""
    cell_rows, _, cell_columns, _ = GRID
    cells = torch.arange(len(CELLS)).reshape(cell_rows, 1, cell_columns, 1)
    return cells.expand(GRID).flatten()


def average_cells(patches_BPD: Tensor) -> Tensor:
    """The mean of the patches of each cell: [B, C, D]."""
    batch, _, width = patches_BPD.shape
    return patches_BPD.reshape(batch, *GRID, width).mean(dim=(2, 4)).flatten(1, 2)


def label_cells(scenes: list[Scene]) -> Tensor:
    """Colour, shape and size of the thing in each cell, counted from 1, and 0 for nothing."""
    labels_NCA = torch.zeros(len(scenes), len(CELLS), len(ATTRIBUTES), dtype=torch.long)
    for row, scene in enumerate(scenes):
        for thing in scene.things:
            classes = (
                list(COLOURS).index(thing.colour),
                SHAPES.index(thing.shape),
                list(SIZES).index(thing.size),
            )
            labels_NCA[row, CELLS.index(thing.cell)] = torch.tensor(classes) + 1
    return labels_NCA


@torch.no_grad()
def compute_features(tower: CLIPVisionModel, pixels_NCHW: Tensor) -> Tensor:
    """Patch features of every scene, which stay the same once the tower is frozen: [N, P, D]."""
    outputs = (tower(scale_pixels(batch_BCHW)) for batch_BCHW in pixels_NCHW.split(500))
    return torch.cat([output.last_hidden_state[:, 1:].half() for output in outputs])


def scale_pixels(pixels_NCHW: Tensor) -> Tensor:
    """Pixels of 8 bits in [-1, 1], as the processors scale them."""
    return pixels_NCHW.float() / 127.5 - 1


def probe_tower(llava: Path, num_train: int = 6_000, num_test: int = 2_000) -> dict[str, float]:
    """How well a linear probe on the frozen tower's features tells the things of unbiased scenes.

    Args:
        llava: folder of the model.
        num_train: scenes that the probe is trained on.
        num_test: scenes that it is tested on; neither the tower nor the probe was trained on them.

    Returns:
        By attribute, the share of right predictions in cells that hold a thing.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tower = LlavaForConditionalGeneration.from_pretrained(llava).model.vision_tower.eval()
    scenes = [draw_scene(PROBE_SEED + i) for i in range(num_train + num_test)]
    pixels_NHWC = np.stack([np.asarray(render_scene(scene)) for scene in scenes])
    pixels_NCHW = torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2)
    labels_NCA = label_cells(scenes)
    occupied_NC = labels_NCA[..., 0] > 0
    scene_M = torch.arange(len(scenes)).unsqueeze(1).expand_as(occupied_NC)[occupied_NC]
    features_MD = average_cells(compute_features(tower, pixels_NCHW).float())[occupied_NC]
    labels_MA = labels_NCA[occupied_NC]
    is_train_M = scene_M < num_train
    heads = nn.Linear(features_MD.shape[1], sum(NUM_CLASSES))
    optimizer = torch.optim.LBFGS(heads.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def compute_loss() -> Tensor:
        optimizer.zero_grad()
        logits = heads(features_MD[is_train_M]).split(NUM_CLASSES, dim=-1)
        labels = labels_MA[is_train_M].unbind(-1)
        losses = [
            F.cross_entropy(logits_MK, label_M)
            for logits_MK, label_M in zip(logits, labels, strict=True)
        ]
        loss = torch.stack(losses).sum()
        loss.backward()
        return loss

    optimizer.step(compute_loss)
    with torch.no_grad():
        logits = heads(features_MD[~is_train_M]).split(NUM_CLASSES, dim=-1)
    labels = labels_MA[~is_train_M].unbind(-1)
    return {
        attribute: (logits_MK.argmax(-1) == label_M).float().mean().item()
        for attribute, logits_MK, label_M in zip(ATTRIBUTES, logits, labels, strict=True)
    }
