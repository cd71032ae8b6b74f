"""Scenes: up to six things on a grid of three columns and two rows, drawn from a world and a seed.

A world says how likely things are and how they look: in a biased one most circles are red. A scene
holds everything that was drawn, so that its image and its truth follow from it alone.
"""

import json
import random
from dataclasses import asdict, dataclass
from types import MappingProxyType

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

GREY = (123, 121, 124)  # what a dull thing fades to: the mean of the colours


@dataclass(frozen=True, kw_only=True)
class ShapeBias:
    """A row of a bias table: the colour and size of most things that have this shape."""

    shape: str
    colour: str
    size: str


BIAS_TABLE = (
    ShapeBias(shape="circle", colour="red", size="large"),
    ShapeBias(shape="square", colour="blue", size="small"),
    ShapeBias(shape="triangle", colour="green", size="large"),
    ShapeBias(shape="star", colour="yellow", size="small"),
    ShapeBias(shape="diamond", colour="purple", size="large"),
)


@dataclass(frozen=True, kw_only=True)
class World:
    """The distribution that scenes are drawn from.

    Attributes:
        name: of the world; a scene's random draws depend on it.
        palette: the colours that occur, with their typical RGB.
        shapes: the shapes that occur.
        bias_table: the colour and size that each shape tends to.
        colour_bias: the share of things that are given their shape's colour; the others draw a
            colour evenly. 0 is unbiased.
        size_bias: the same for sizes.
        count_bias: the share of scenes that are given `usual_count` things.
        usual_count: the number of things that the count bias tends to.
        max_things: the most things in a scene.
        dull_share: the share of things whose colour is faded, so that the evidence for it is weak.
        dull_contrast: the range of what is left of a faded colour's distance from grey.
        tint: standard deviation of a thing's colour around its typical one, in 8-bit steps.
        size_spread: standard deviation of a half-width, in pixels.
        noise: standard deviation of a pixel, in 8-bit steps.
        max_marks: the most faint dots and strokes of clutter, which no turn mentions.
    """

    name: str
    palette: tuple[tuple[str, RGB], ...] = tuple(COLOURS.items())
    shapes: tuple[str, ...] = SHAPES
    bias_table: tuple[ShapeBias, ...] = BIAS_TABLE
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

    def bias_of(self, shape: str) -> ShapeBias:
        return next(bias for bias in self.bias_table if bias.shape == shape)


UNBIASED = World(name="unbiased")
BIASED = World(name="biased", colour_bias=0.95, size_bias=0.95, count_bias=0.3)


def draw_held_out_world(name: str, seed: int) -> World:
    """A world that nothing was trained on: another bias table, other looks, the same words."""
    rng = random.Random(f"world {name} {seed}")
    bias_table = tuple(
        ShapeBias(shape=shape, colour=colour, size=rng.choice(list(SIZES)))
        for shape, colour in zip(SHAPES, rng.sample(list(COLOURS), len(SHAPES)), strict=True)
    )
    return World(
        name=name,
        palette=tuple((colour, _shift_colour(rgb, rng)) for colour, rgb in COLOURS.items()),
        bias_table=bias_table,
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
        colour: one of COLOURS.
        shape: one of SHAPES.
        size: one of SIZES.
        cell: one of CELLS.
        rgb: the colour that it is painted in; None is the typical RGB of its colour.
        radius_px: its half-width; None is the typical half-width of its size.
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
    """What an image shows: its things, and what else its pixels follow from.

    Attributes:
        seed: of the places inside the cells, of clutter and of noise.
        things: in reading order.
        world: the name of the world that it was drawn from.
        noise: standard deviation of a pixel, in 8-bit steps.
        num_marks: faint dots and strokes of clutter.
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
        """The scene that `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: the text is not the JSON of a scene.
        """
        fields = json.loads(text)
        things = [dict(thing) for thing in fields["things"]]
        for thing in things:
            if thing.get("rgb") is not None:
                red, green, blue = thing["rgb"]
                thing["rgb"] = (red, green, blue)
        return Scene(**{**fields, "things": tuple(Thing(**thing) for thing in things)})


def draw_scene(seed: int, world: World = UNBIASED) -> Scene:
    """Draws a scene of this world; the same seed gives the same scene."""
    rng = random.Random(f"scene {world.name} {seed}")
    has_usual_count = rng.random() < world.count_bias
    num_things = world.usual_count if has_usual_count else rng.randint(1, world.max_things)
    cells = sorted(rng.sample(range(len(CELLS)), num_things))
    return Scene(
        seed=seed,
        things=tuple(_draw_thing(CELLS[cell], world, rng) for cell in cells),
        world=world.name,
        noise=world.noise,
        num_marks=rng.randint(0, world.max_marks),
    )


def _draw_thing(cell: str, world: World, rng: random.Random) -> Thing:
    palette = dict(world.palette)
    shape = rng.choice(world.shapes)
    colour, size = rng.choice(list(palette)), rng.choice(list(SIZES))
    bias = world.bias_of(shape)
    if rng.random() < world.colour_bias and bias.colour in palette:
        colour = bias.colour
    if rng.random() < world.size_bias:
        size = bias.size
    is_dull = rng.random() < world.dull_share
    contrast = rng.uniform(*(world.dull_contrast if is_dull else (0.8, 1.0)))
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


def _shift_colour(rgb: RGB, rng: random.Random) -> RGB:
    red, green, blue = (min(255, max(0, value + rng.randint(-12, 12))) for value in rgb)
    return red, green, blue
