"""Presence questions about scenes, adversarial by the bias of their world.

An object is a name such as "red circle". Asked for beside a thing, and not there, is first the name
that the world's bias would give to its shape, then the names that share its shape or its colour.
"""

import random
from collections.abc import Iterator, Sequence

from c3l_ray.benchmarks.presence import LabelledImage
from c3l_ray.scenes.draw import BIASED, UNBIASED, Scene, World, draw_held_out_world, draw_scene
from c3l_ray.scenes.slots import NAMES
from c3l_ray.scenes.world import encode_png

TEMPLATE = "Is there {a object}?"
"""A question of the world's own language, whose answers the bundled model knows."""
HELD_OUT_SEED = 1
FIRST_SEED = 95_000_000  # far from the seeds that training draws
WORLDS = {
    "biased": BIASED,
    "unbiased": UNBIASED,
    "held-out": draw_held_out_world("held-out", HELD_OUT_SEED),
}


def draw_scenes(world: World, num_scenes: int, seed: int) -> list[Scene]:
    """Scenes of a world that nothing was trained on, other ones with another seed."""
    first = FIRST_SEED + seed * num_scenes
    return [draw_scene(first + number, world) for number in range(num_scenes)]


def label_scene(scene: Scene, world: World) -> LabelledImage:
    """A scene as an image with its objects, of which each is named once."""
    objects = tuple(dict.fromkeys(thing.name for thing in scene.things))
    tempting = {}
    for name in objects:
        colour, shape = name.split()
        biased = f"{world.bias_of(shape).colour} {shape}"
        similar = [other for other in NAMES if {colour, shape} & {*other.split()}]
        random.Random(f"tempting {scene.seed} {name}").shuffle(similar)
        tempting[name] = [biased, *similar]
    return LabelledImage(image=_name_image(scene), objects=objects, tempting=tempting)


def encode_scenes(scenes: Sequence[Scene]) -> Iterator[tuple[str, bytes]]:
    """The image of each scene by its file's name."""
    for scene in scenes:
        yield _name_image(scene), encode_png(scene)


def _name_image(scene: Scene) -> str:
    return f"{scene.seed:08d}.png"
