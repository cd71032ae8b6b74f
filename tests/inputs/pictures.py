"""Pictures of one shade each, which tell rows apart."""

from typing import Any

from PIL import Image

from c3l_ray.images import decode_image


def draw_shade(shade: int) -> Image.Image:
    return Image.new("RGB", (8, 6), (shade, shade, shade))


def read_shades(rows: list[dict[str, Any]]) -> list[int]:
    """The shade of each row's image."""
    return [decode_image(row["image"], 10**6).getpixel((0, 0))[0] for row in rows]  # type: ignore[index]
