"""The image of a scene, which follows from the scene alone."""

import math
import random

import numpy as np
from PIL import Image, ImageDraw

from c3l_ray.scenes.draw import CELLS, COLOURS, NUM_COLUMNS, RGB, SIZES, Scene

SIDE_PX = 96
CELL_PX = (SIDE_PX // NUM_COLUMNS, SIDE_PX // 2)  # width, height


def render_scene(scene: Scene) -> Image.Image:
    """Paints a scene in RGB, 96 x 96 pixels: a light grey ground, clutter, the things, noise."""
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
    """Paints a faint dot or stroke, smaller than any thing."""
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
    """Fills a shape of a half-width in pixels around (x, y)."""
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
