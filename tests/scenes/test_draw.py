from collections import Counter

import numpy as np
import pytest

from c3l_ray.scenes.draw import CELLS, COLOURS, SHAPES, SIDE_PX, Scene, Thing, draw_scene, render


def test_a_seed_is_a_scene_and_an_image() -> None:
    assert draw_scene(7) == draw_scene(7)
    assert draw_scene(7) != draw_scene(8)
    assert render(draw_scene(7)).tobytes() == render(draw_scene(7)).tobytes()
    assert render(draw_scene(7)).size == (SIDE_PX, SIDE_PX)


def test_json_and_back() -> None:
    for seed in range(20):
        assert Scene.from_json(draw_scene(seed).to_json()) == draw_scene(seed)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"seed": 1, "things": [{"colour": "red"}]}'])
def test_other_json_is_no_scene(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Scene.from_json(text)


def test_one_thing_a_cell_in_reading_order_and_all_alike_often() -> None:
    counts: Counter[str] = Counter()
    for seed in range(4000):
        scene = draw_scene(seed)
        cells = [CELLS.index(thing.cell) for thing in scene.things]
        assert cells == sorted(set(cells)) and 1 <= len(cells) <= 4
        for thing in scene.things:
            counts.update((thing.colour, thing.shape, thing.cell))
        counts[str(len(cells))] += 1
    for kinds in (COLOURS, SHAPES, CELLS, "1234"):
        numbers = [counts[kind] for kind in kinds]
        assert max(numbers) < 1.15 * min(numbers)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_thing_is_drawn_in_its_colour_and_cell(colour: str, shape: str) -> None:
    for index, cell in enumerate(CELLS):
        scene = Scene(seed=index, things=(Thing(colour=colour, shape=shape, cell=cell),))
        pixels = np.asarray(render(scene)).astype(int)
        near = np.abs(pixels - np.array(COLOURS[colour])).max(axis=2) < 30
        rows, columns = np.nonzero(near)
        row, column = divmod(index, 2)
        half = SIDE_PX // 2
        assert near.sum() > 60
        assert set(rows // half) == {row} and set(columns // half) == {column}
