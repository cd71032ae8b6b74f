from collections import Counter

import numpy as np
import pytest

from c3l_ray.scenes.draw import (
    BIASED,
    CELLS,
    COLOURS,
    SHAPES,
    SIZES,
    UNBIASED,
    Scene,
    World,
    draw_held_out_world,
    draw_scene,
)

WORLDS = (UNBIASED, BIASED, draw_held_out_world("other", 3))


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_the_same_seed_draws_the_same_scene(world: World) -> None:
    assert draw_scene(7, world) == draw_scene(7, world)
    assert draw_scene(7, world) != draw_scene(8, world)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_json_holds_the_whole_scene(world: World) -> None:
    for seed in range(20):
        scene = draw_scene(seed, world)
        copy = Scene.from_json(scene.to_json())
        assert copy == scene and copy.world == world.name


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"seed": 1, "things": [{"colour": "red"}]}', '{"things": [{"rgb": [1]}]}'],
)
def test_other_json_is_no_scene(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Scene.from_json(text)


def test_each_cell_holds_one_thing_and_all_looks_are_equally_likely() -> None:
    counts: Counter[str] = Counter()
    for seed in range(4000):
        scene = draw_scene(seed)
        cells = [CELLS.index(thing.cell) for thing in scene.things]
        assert cells == sorted(set(cells)) and 1 <= len(cells) <= 6
        for thing in scene.things:
            counts.update((thing.colour, thing.shape, thing.cell, thing.size))
        counts[str(len(cells))] += 1
    for alternatives in (COLOURS, SHAPES, CELLS, SIZES, "123456"):
        numbers = [counts[alternative] for alternative in alternatives]
        assert max(numbers) < 1.15 * min(numbers)


def test_a_biased_world_follows_its_bias_table() -> None:
    scenes = [draw_scene(seed, BIASED) for seed in range(1000)]
    for bias in BIASED.bias_table:
        things = [thing for scene in scenes for thing in scene.things if thing.shape == bias.shape]
        colours = [thing.colour == bias.colour for thing in things]
        sizes = [thing.size == bias.size for thing in things]
        assert np.mean(colours) > BIASED.colour_bias - 0.01
        assert np.mean(sizes) > BIASED.size_bias - 0.01
    counts = [len(scene.things) == BIASED.usual_count for scene in scenes]
    assert np.mean(counts) > BIASED.count_bias - 0.02


def test_a_held_out_world_follows_from_its_name_and_seed() -> None:
    assert draw_held_out_world("a", 1) == draw_held_out_world("a", 1)
    assert draw_held_out_world("a", 1) != draw_held_out_world("a", 2)
    assert draw_held_out_world("a", 1).bias_table != draw_held_out_world("b", 1).bias_table
    assert draw_held_out_world("a", 1).bias_table != BIASED.bias_table


def test_a_world_may_have_fewer_colours_and_shapes() -> None:
    world = World(name="few", palette=(("red", (200, 0, 0)),), shapes=("star",), max_things=2)
    for seed in range(50):
        scene = draw_scene(seed, world)
        assert {thing.name for thing in scene.things} == {"red star"}
        assert len(scene.things) <= 2
