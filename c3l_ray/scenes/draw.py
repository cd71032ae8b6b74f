"""Scenes: up to four coloured shapes on a two-by-two grid, drawn from a seed."""

import json
import math
import random
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image, ImageDraw

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (40, 84, 214),
    "yellow": (240, 208, 40),
    "purple": (150, 60, 180),
    "orange": (244, 136, 30),
}
SHAPES = ("circle", "square", "triangle", "star")
CELLS = ("top left", "top right", "bottom left", "bottom right")

SIDE_PX = 64
CELL_PX = SIDE_PX // 2


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One coloured shape in one cell; no cell holds two."""

    colour: str
    shape: str
    cell: str

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What an image shows: its things in reading order, and the seed of its jitter and noise."""

    seed: int
    things: tuple[Thing, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Scene":
        """The scene that `to_json` wrote. Raises ValueError, KeyError or TypeError otherwise."""
        fields = json.loads(text)
        return Scene(
            seed=fields["seed"], things=tuple(Thing(**thing) for thing in fields["things"])
        )


def draw_scene(seed: int) -> Scene:
    """A scene from a seed: one to four things, each colour, shape and cell equally likely."""
    rng = random.Random(f"scene {seed}")
    taken = sorted(rng.sample(range(len(CELLS)), rng.randint(1, len(CELLS))))
    things = (
        Thing(colour=rng.choice(list(COLOURS)), shape=rng.choice(SHAPES), cell=CELLS[cell])
        for cell in taken
    )
    return Scene(seed=seed, things=tuple(things))


def render(scene: Scene) -> Image.Image:
    """The scene in RGB, 64 x 64 pixels: jittered sizes and places, a grey ground, noise."""
    rng = random.Random(f"render {scene.seed}")
    ground = rng.randint(190, 245)
    image = Image.new("RGB", (SIDE_PX, SIDE_PX), (ground, ground, ground))
    canvas = ImageDraw.Draw(image)
    for thing in scene.things:
        row, column = divmod(CELLS.index(thing.cell), 2)
        radius = rng.uniform(9, 13)
        slack = CELL_PX / 2 - radius - 1
        x = column * CELL_PX + CELL_PX / 2 + rng.uniform(-slack, slack)
        y = row * CELL_PX + CELL_PX / 2 + rng.uniform(-slack, slack)
        _draw_shape(canvas, thing.shape, x, y, radius, COLOURS[thing.colour])
    noise = np.random.default_rng(scene.seed).normal(0, 6, (SIDE_PX, SIDE_PX, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _draw_shape(
    canvas: ImageDraw.ImageDraw,
    shape: str,
    x: float,
    y: float,
    radius: float,
    colour: tuple[int, int, int],
) -> None:
    """Fills a shape of the given half-width, in pixels, around (x, y)."""
    if shape == "circle":
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif shape == "square":
        half = radius * 0.88
        canvas.rectangle((x - half, y - half, x + half, y + half), fill=colour)
    elif shape == "triangle":
        corners = [(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)]
        canvas.polygon(corners, fill=colour)
    else:
        tips = [
            (x + reach * math.sin(k * math.pi / 5), y - reach * math.cos(k * math.pi / 5))
            for k, reach in enumerate((radius, radius * 0.42) * 5)
        ]
        canvas.polygon(tips, fill=colour)
