from collections import Counter

import numpy as np
import pytest

from c3l_ray.scenes.draw import BIASED, CELL_PX, CELLS, COLOURS, NUM_COLUMNS, SHAPES, SIDE_PX, SIZES, UNBIASED, Scene, Thing, World, draw_scene, held_out, render

WORLDS = (UNBIASED, BIASED, held_out("other", 3))


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_a_seed_is_a_scene_and_an_image(world: World) -> None:
    assert draw_scene(7, world) == draw_scene(7, world)
    assert draw_scene(7, world) != draw_scene(8, world)
    first, second = (render(draw_scene(7, world)) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert first.size == (SIDE_PX, SIDE_PX)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_json_and_back_gives_the_same_image(world: World) -> None:
    for seed in range(20):
        scene = draw_scene(seed, world)
        again = Scene.from_json(scene.to_json())
        assert again == scene and again.world == world.name
        assert render(again).tobytes() == render(scene).tobytes()


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"seed": 1, "things": [{"colour": "red"}]}', '{"things": [{"rgb": [1]}]}'],
)
def test_other_json_is_no_scene(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Scene.from_json(text)


def test_one_thing_a_cell_in_reading_order_and_all_alike_often() -> None:
    counts: Counter[str] = Counter()
    for seed in range(4000):
        scene = draw_scene(seed)
        cells = [CELLS.index(thing.cell) for thing in scene.things]
        assert cells == sorted(set(cells)) and 1 <= len(cells) <= 6
        for thing in scene.things:
            counts.update((thing.colour, thing.shape, thing.cell, thing.size))
        counts[str(len(cells))] += 1
    for kinds in (COLOURS, SHAPES, CELLS, SIZES, "123456"):
        numbers = [counts[kind] for kind in kinds]
        assert max(numbers) < 1.15 * min(numbers)


def test_a_biased_world_keeps_to_its_table() -> None:
    scenes = [draw_scene(seed, BIASED) for seed in range(1000)]
    for taste in BIASED.tastes:
        alike = [t for scene in scenes for t in scene.things if t.shape == taste.shape]
        assert np.mean([t.colour == taste.colour for t in alike]) > BIASED.colour_bias - 0.01
        assert np.mean([t.size == taste.size for t in alike]) > BIASED.size_bias - 0.01
    assert np.mean([len(s.things) == BIASED.usual_count for s in scenes]) > BIASED.count_bias - 0.02


def test_a_held_out_world_follows_from_its_name_and_seed() -> None:
    assert held_out("a", 1) == held_out("a", 1)
    assert held_out("a", 1) != held_out("a", 2)
    assert held_out("a", 1).tastes != held_out("b", 1).tastes
    assert held_out("a", 1).tastes != BIASED.tastes


def test_a_world_may_have_fewer_words() -> None:
    few = World(name="few", palette=(("red", (200, 0, 0)),), shapes=("star",), max_things=2)
    for seed in range(50):
        scene = draw_scene(seed, few)
        assert {thing.name for thing in scene.things} == {"red star"}
        assert len(scene.things) <= 2


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_thing_is_drawn_in_its_colour_and_cell(colour: str, shape: str, size: str) -> None:
    areas = []
    for index, cell in enumerate(CELLS):
        thing = Thing(colour=colour, shape=shape, size=size, cell=cell)
        pixels = np.asarray(render(Scene(seed=index, things=(thing,)))).astype(int)
        near = np.abs(pixels - np.array(COLOURS[colour])).max(axis=2) < 30
        rows, columns = np.nonzero(near)
        row, column = divmod(index, NUM_COLUMNS)
        width, height = CELL_PX
        # A diamond is taller than its half-width says: it may reach a pixel over the edge.
        assert row * height - 1 <= rows.min() and rows.max() <= (row + 1) * height
        assert set(columns // width) == {column}
        areas.append(near.sum())
    assert min(areas) > (40 if size == "small" else 90)


def test_clutter_is_fainter_than_things() -> None:
    plain, cluttered = (
        np.asarray(render(Scene(seed=5, things=(), num_marks=n, noise=0))).astype(int)
        for n in (0, 20)
    )
    changed = np.abs(plain - cluttered)
    assert 0 < (changed > 0).mean() < 0.1
    assert changed.max() <= 30
