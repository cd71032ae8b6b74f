"""What the patches of an image are taught to tell."""

import torch

from c3l_ray.scenes.draw import CELLS, Scene, Thing
from c3l_ray.scenes.training import tower


def test_each_patch_belongs_to_the_cell_it_lies_in() -> None:
    cells = tower.cells_of_patches().reshape(6, 6)
    assert cells[0].tolist() == [0, 0, 1, 1, 2, 2] and cells[2].tolist() == cells[0].tolist()
    assert cells[3].tolist() == [3, 3, 4, 4, 5, 5]
    patches_BPD = torch.nn.functional.one_hot(cells.flatten(), 6).float()[None]
    assert torch.equal(tower.average_cells(patches_BPD)[0], torch.eye(6))


def test_labels_say_what_the_cells_hold() -> None:
    things = (
        Thing(colour="red", shape="circle", size="small", cell="top left"),
        Thing(colour="cyan", shape="diamond", size="large", cell="bottom right"),
    )
    labels_CA = tower.label_cells([Scene(seed=0, things=things)])[0]
    assert labels_CA[CELLS.index("top left")].tolist() == [1, 1, 1]
    assert labels_CA[CELLS.index("bottom right")].tolist() == [6, 5, 2]
    assert labels_CA.sum() == 3 + 13
