"""Scenes: up to six things on a grid of three columns and two rows, drawn from a world and a seed.

A world says how likely things are and how they look: in a biased one most circles are red. A scene
carries all that was drawn, so that its image and its truth follow from it alone.
"""

import json
import math
import random
from dataclasses import asdict, dataclass
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw

RGB = tuple[int, int, int]

COLOURS: MappingProxyType[str, RGB] = MappingProxyType(
    {
        "red": (214, 40, 40),
        "green": (46, 160, 67),
        "blue": (40, 84, 214),
        "yellow": (236, 204, 40),
        "purple": (160, 50, 180),
        "cyan": (40, 190, 200),
    }
)
SHAPES = ("circle", "square", "triangle", "star", "diamond")
SIZES = MappingProxyType({"small": 9.0, "large": 13.0})  # typical half-widths in pixels
CELLS = (
    "top left",
    "top middle",
    "top right",
    "bottom left",
    "bottom middle",
    "bottom right",
)
NUM_COLUMNS = 3

SIDE_PX = 96
CELL_PX = (SIDE_PX // NUM_COLUMNS, SIDE_PX // 2)  # width, height
GREY = (123, 121, 124)  # what a dull thing fades to: the mean of the colours


@dataclass(frozen=True, kw_only=True)
class Taste:
    """What a biased world makes of a shape: the colour and size that most things of it have."""

    shape: str
    colour: str
    size: str


TASTES = (
    Taste(shape="circle", colour="red", size="large"),
    Taste(shape="square", colour="blue", size="small"),
    Taste(shape="triangle", colour="green", size="large"),
    Taste(shape="star", colour="yellow", size="small"),
    Taste(shape="diamond", colour="purple", size="large"),
)


@dataclass(frozen=True, kw_only=True)
class World:
    """How scenes come about.

    Attributes:
        palette: the colours that occur, with their typical RGB.
        shapes: those that occur.
        tastes: the bias table: what each shape tends to.
        colour_bias: the share of things that have their shape's colour whatever comes; the others
            draw one evenly. 0 is unbiased.
        size_bias: the same for sizes.
        count_bias: the share of scenes that hold `usual_count` things whatever comes.
        max_things: the most that a scene holds.
        dull_share: the share of things whose colour is faded, so that the evidence for it is weak.
        dull_contrast: the range of what is left of a faded colour's distance from grey.
        tint: standard deviation of a thing's colour around its typical one, in 8-bit steps.
        size_spread: standard deviation of a half-width, in pixels.
        noise: standard deviation of a pixel, in 8-bit steps.
        max_marks: the most faint dots and strokes of clutter, which nothing speaks of.
    """

    name: str
    palette: tuple[tuple[str, RGB], ...] = tuple(COLOURS.items())
    shapes: tuple[str, ...] = SHAPES
    tastes: tuple[Taste, ...] = TASTES
    colour_bias: float = 0.0
    size_bias: float = 0.0
    count_bias: float = 0.0
    usual_count: int = 4
    max_things: int = 6
    dull_share: float = 0.3
    dull_contrast: tuple[float, float] = (0.12, 0.5)
    tint: float = 9.0
    size_spread: float = 0.85
    noise: float = 5.0
    max_marks: int = 8

    def taste(self, shape: str) -> Taste:
        return next(taste for taste in self.tastes if taste.shape == shape)


UNBIASED = World(name="unbiased")
BIASED = World(name="biased", colour_bias=0.95, size_bias=0.95, count_bias=0.3)


def held_out(name: str, seed: int) -> World:
    """A world that nothing was trained on: other tastes, other looks, the same words."""
    rng = random.Random(f"world {name} {seed}")
    tastes = tuple(
        Taste(shape=shape, colour=colour, size=rng.choice(list(SIZES)))
        for shape, colour in zip(SHAPES, rng.sample(list(COLOURS), len(SHAPES)), strict=True)
    )
    return World(
        name=name,
        palette=tuple((colour, _shifted(rgb, rng)) for colour, rgb in COLOURS.items()),
        tastes=tastes,
        colour_bias=rng.uniform(0, 0.9),
        size_bias=rng.uniform(0, 0.9),
        count_bias=rng.uniform(0, 0.9),
        usual_count=rng.randint(1, 6),
        dull_share=rng.uniform(0.1, 0.5),
        tint=rng.uniform(4, 12),
        noise=rng.uniform(2, 10),
        max_marks=rng.randint(0, 16),
    )


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One thing in one cell; no cell holds two.

    Attributes:
        rgb: the colour that it is painted in; None is its colour's typical one.
        radius_px: its half-width; None is its size's typical one.
    """

    colour: str
    shape: str
    size: str
    cell: str
    rgb: RGB | None = None
    radius_px: float | None = None

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def full_name(self) -> str:
        return f"{self.size} {self.name}"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What an image shows: its things in reading order, and what else its pixels follow from.

    Attributes:
        seed: of places inside the cells, of clutter and of noise.
        world: the name of the world that it was drawn from.
    """

    seed: int
    things: tuple[Thing, ...]
    world: str = UNBIASED.name
    noise: float = UNBIASED.noise
    num_marks: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Scene":
        """The scene that `to_json` wrote. Raises ValueError, KeyError or TypeError otherwise."""
        fields = json.loads(text)
        things = [dict(thing) for thing in fields["things"]]
        for thing in things:
            if thing.get("rgb") is not None:
                red, green, blue = thing["rgb"]
                thing["rgb"] = (red, green, blue)
        return Scene(**{**fields, "things": tuple(Thing(**thing) for thing in things)})


def draw_scene(seed: int, world: World = UNBIASED) -> Scene:
    """A scene of this world: the same for the same seed."""
    rng = random.Random(f"scene {world.name} {seed}")
    usual = rng.random() < world.count_bias
    num_things = world.usual_count if usual else rng.randint(1, world.max_things)
    taken = sorted(rng.sample(range(len(CELLS)), num_things))
    return Scene(
        seed=seed,
        things=tuple(_draw_thing(CELLS[cell], world, rng) for cell in taken),
        world=world.name,
        noise=world.noise,
        num_marks=rng.randint(0, world.max_marks),
    )


def _draw_thing(cell: str, world: World, rng: random.Random) -> Thing:
    palette = dict(world.palette)
    shape = rng.choice(world.shapes)
    colour, size = rng.choice(list(palette)), rng.choice(list(SIZES))
    taste = world.taste(shape)
    if rng.random() < world.colour_bias and taste.colour in palette:
        colour = taste.colour
    if rng.random() < world.size_bias:
        size = taste.size
    dull = rng.random() < world.dull_share
    contrast = rng.uniform(*(world.dull_contrast if dull else (0.8, 1.0)))
    red, green, blue = (
        min(255, max(0, round(grey + contrast * (typical - grey) + rng.gauss(0, world.tint))))
        for grey, typical in zip(GREY, palette[colour], strict=True)
    )
    radius = min(14.8, max(6.5, rng.gauss(SIZES[size], world.size_spread)))
    return Thing(
        colour=colour,
        shape=shape,
        size=size,
        cell=cell,
        rgb=(red, green, blue),
        radius_px=round(radius, 3),
    )


def render(scene: Scene) -> Image.Image:
    """The scene in RGB, 96 x 96 pixels: a light grey ground, clutter, the things, noise."""
    rng = random.Random(f"render {scene.seed}")
    ground = rng.randint(205, 245)
    image = Image.new("RGB", (SIDE_PX, SIDE_PX), (ground, ground, ground))
    canvas = ImageDraw.Draw(image)
    for _ in range(scene.num_marks):
        _draw_mark(canvas, ground, rng)
    for thing in scene.things:
        row, column = divmod(CELLS.index(thing.cell), NUM_COLUMNS)
        width, height = CELL_PX
        radius = SIZES[thing.size] if thing.radius_px is None else thing.radius_px
        x = (column + 0.5) * width + rng.uniform(-1, 1) * (width / 2 - radius - 1)
        y = (row + 0.5) * height + rng.uniform(-1, 1) * (height / 2 - radius - 1)
        rgb = COLOURS[thing.colour] if thing.rgb is None else thing.rgb
        _draw_shape(canvas, thing.shape, x, y, radius, rgb)
    noise = np.random.default_rng(scene.seed).normal(0, scene.noise, (SIDE_PX, SIDE_PX, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _draw_mark(canvas: ImageDraw.ImageDraw, ground: int, rng: random.Random) -> None:
    """A faint dot or stroke, smaller than any thing."""
    shade = ground - rng.randint(12, 30)
    x, y = rng.uniform(0, SIDE_PX), rng.uniform(0, SIDE_PX)
    if rng.random() < 0.5:
        canvas.ellipse((x, y, x + 2, y + 2), fill=(shade, shade, shade))
    else:
        end = (x + rng.uniform(-9, 9), y + rng.uniform(-9, 9))
        canvas.line(((x, y), end), fill=(shade, shade, shade))


def _draw_shape(
    canvas: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, rgb: RGB
) -> None:
    """Fills a shape of the given half-width, in pixels, around (x, y)."""
    if shape == "circle":
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=rgb)
    elif shape == "square":
        half = radius * 0.88
        canvas.rectangle((x - half, y - half, x + half, y + half), fill=rgb)
    elif shape == "triangle":
        canvas.polygon(
            [(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=rgb
        )
    elif shape == "diamond":
        width, height = 0.7 * radius, 1.15 * radius
        canvas.polygon([(x, y - height), (x + width, y), (x, y + height), (x - width, y)], fill=rgb)
    else:
        tips = [
            (x + reach * math.sin(k * math.pi / 5), y - reach * math.cos(k * math.pi / 5))
            for k, reach in enumerate((radius, radius * 0.42) * 5)
        ]
        canvas.polygon(tips, fill=rgb)


def _shifted(rgb: RGB, rng: random.Random) -> RGB:
    red, green, blue = (min(255, max(0, value + rng.randint(-12, 12))) for value in rgb)
    return red, green, blue
