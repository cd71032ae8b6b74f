"""The world as files: shards of scenes, and the shipped models that were trained on them."""

import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from c3l_ray.scenes.draw import UNBIASED, Scene, World, draw_scene
from c3l_ray.scenes.render import render_scene

WEIGHTS = Path(__file__).parent / "weights"
LLAVA = WEIGHTS / "llava"
CLIP = WEIGHTS / "clip"
PHOTOGRAPHS_FOLDER = Path(__file__).parent / "photographs"


def write_scenes(
    folder: Path,
    *,
    num_scenes: int,
    scenes_per_shard: int,
    seed: int = 0,
    world: World = UNBIASED,
) -> None:
    """Writes WebDataset shards of a world's scenes: each a png with the scene as json beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, num_scenes, scenes_per_shard):
        seeds = range(seed + first, seed + min(first + scenes_per_shard, num_scenes))
        shard = folder / f"scenes-{first // scenes_per_shard:05d}.tar"
        write_shard(shard, _scene_members(draw_scene(seed, world) for seed in seeds))


def _scene_members(scenes: Iterable[Scene]) -> Iterator[tuple[str, bytes]]:
    for scene in scenes:
        yield f"{scene.seed:08d}.json", scene.to_json().encode()
        yield f"{scene.seed:08d}.png", encode_png(scene)


def write_shard(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Writes a tar of (name, content) members; the same members give the same bytes."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def encode_png(scene: Scene) -> bytes:
    """The scene's image as a PNG file."""
    buffer = io.BytesIO()
    render_scene(scene).save(buffer, "PNG")
    return buffer.getvalue()
