import hashlib
import re
import tarfile
from pathlib import Path

from c3l_ray.scenes import world
from c3l_ray.scenes.draw import BIASED, Scene, draw_scene

README = Path(world.__file__).parent / "README.md"


def test_shards_hold_each_scene_beside_its_image(tmp_path: Path) -> None:
    world.write_scenes(tmp_path, num_scenes=5, scenes_per_shard=2, seed=40, world=BIASED)
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == [f"scenes-0000{i}.tar" for i in range(3)]
    with tarfile.open(paths[2]) as tar:
        assert tar.getnames() == ["00000044.json", "00000044.png"]
        text = tar.extractfile("00000044.json").read().decode()  # type: ignore[union-attr]
    assert Scene.from_json(text) == draw_scene(44, BIASED)


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        world.write_scenes(tmp_path / folder, num_scenes=3, scenes_per_shard=3)
    first, second = ((tmp_path / f / "scenes-00000.tar").read_bytes() for f in ("a", "b"))
    assert first == second


def test_the_shipped_weights_are_small_and_safe() -> None:
    files = [path for path in world.WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 15_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja"}


def test_the_readme_lists_the_digests_of_the_shipped_weights() -> None:
    listed = dict(re.findall(r"`(\S+\.safetensors)`[^`]*`([0-9a-f]{64})`", README.read_text()))
    shipped = {
        f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in world.WEIGHTS.rglob("*.safetensors")
    }
    assert listed == shipped
