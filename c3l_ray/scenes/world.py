"""The world as files: shards of scenes to work on, and the shipped models that know them."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from c3l_ray.scenes.draw import UNBIASED, Scene, World, draw_scene, render

WEIGHTS = Path(__file__).parent / "weights"
LLAVA = WEIGHTS / "llava"
CLIP = WEIGHTS / "clip"


def write_scenes(
    folder: Path,
    *,
    num_scenes: int,
    scenes_per_shard: int,
    seed: int = 0,
    world: World = UNBIASED,
) -> None:
    """WebDataset shards of a world's scenes: for each a png, and the scene as json beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, num_scenes, scenes_per_shard):
        seeds = range(seed + first, seed + min(first + scenes_per_shard, num_scenes))
        scenes = [draw_scene(each, world) for each in seeds]
        write_shard(
            folder / f"scenes-{first // scenes_per_shard:05d}.tar",
            (
                member
                for scene in scenes
                for member in (
                    (f"{scene.seed:08d}.json", scene.to_json().encode()),
                    (f"{scene.seed:08d}.png", png(scene)),
                )
            ),
        )


def write_shard(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """A tar of (name, content) members, the same bytes each time."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def png(scene: Scene) -> bytes:
    """The scene's image as a file."""
    buffer = io.BytesIO()
    render(scene).save(buffer, "PNG")
    return buffer.getvalue()
