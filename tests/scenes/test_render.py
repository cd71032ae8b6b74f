import numpy as np
import pytest

from c3l_ray.scenes.draw import (
    BIASED,
    CELLS,
    COLOURS,
    NUM_COLUMNS,
    SHAPES,
    SIZES,
    UNBIASED,
    Scene,
    Thing,
    World,
    draw_held_out_world,
    draw_scene,
)
from c3l_ray.scenes.render import CELL_PX, SIDE_PX, render_scene

WORLDS = (UNBIASED, BIASED, draw_held_out_world("other", 3))


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_the_same_scene_gives_the_same_image(world: World) -> None:
    first, second = (render_scene(draw_scene(7, world)) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert first.size == (SIDE_PX, SIDE_PX)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_a_scene_read_from_json_gives_the_same_image(world: World) -> None:
    for seed in range(20):
        scene = draw_scene(seed, world)
        copy = Scene.from_json(scene.to_json())
        assert render_scene(copy).tobytes() == render_scene(scene).tobytes()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_thing_has_its_colour_and_lies_in_its_cell(colour: str, shape: str, size: str) -> None:
    areas = []
    for index, cell in enumerate(CELLS):
        thing = Thing(colour=colour, shape=shape, size=size, cell=cell)
        pixels = np.asarray(render_scene(Scene(seed=index, things=(thing,)))).astype(int)
        has_colour = np.abs(pixels - np.array(COLOURS[colour])).max(axis=2) < 30
        rows, columns = np.nonzero(has_colour)
        row, column = divmod(index, NUM_COLUMNS)
        width, height = CELL_PX
        # A diamond is taller than its half-width says: it may reach a pixel over the edge.
        assert row * height - 1 <= rows.min() and rows.max() <= (row + 1) * height
        assert set(columns // width) == {column}
        areas.append(has_colour.sum())
    assert min(areas) > (40 if size == "small" else 90)


def test_clutter_is_fainter_than_things() -> None:
    plain, cluttered = (
        np.asarray(render_scene(Scene(seed=5, things=(), num_marks=n, noise=0))).astype(int)
        for n in (0, 20)
    )
    difference = np.abs(plain - cluttered)
    assert 0 < (difference > 0).mean() < 0.1
    assert difference.max() <= 30
