"""What `tests.bench.pipeline` compares over: images, requests, models, and what they need."""

import io
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from safetensors.torch import load_file, save_file

from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.read import index_shard, read_unit
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.language import draw_turn
from c3l_ray.scenes.render import render_scene
from c3l_ray.schema import Turn
from tests.bench.random_llava import SIZES, write_checkpoint

PHOTO_SIZES = ((640, 480), (1024, 768), (1280, 960), (1600, 1200))
NOISE = 12  # at most, of a pixel of a photograph
IMAGE_TOKENS = 64
FLOAT_BYTES = 4


def write_input(folder: Path, *, num_images: int, images_per_shard: int, photos: bool) -> Path:
    """Tars of scenes, or of JPEGs of PHOTO_SIZES with detail and noise, all different."""
    if not photos:
        world.write_scenes(folder, num_scenes=num_images, scenes_per_shard=images_per_shard)
        return folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for first in range(0, num_images, images_per_shard):
        members = []
        for number in range(first, min(first + images_per_shard, num_images)):
            size = PHOTO_SIZES[number % len(PHOTO_SIZES)]
            scene = render_scene(draw_scene(number)).resize(size, Image.Resampling.BICUBIC)
            noise = rng.integers(-NOISE, NOISE + 1, (size[1], size[0], 3), dtype=np.int16)
            pixels = np.clip(np.asarray(scene, np.int16) + noise, 0, 255).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
            members.append((f"{number:08d}.jpg", buffer.getvalue()))
        world.write_shard(folder / f"photos-{first:06d}.tar", members)
    return folder


def write_requests(input_: Path, path: Path) -> int:
    """The images with the ids and keys that our jobs give them; how many there are."""
    units = [
        unit
        for shard in find_shards((str(input_),), Layout())
        for unit in index_shard(shard, Layout())
    ]
    columns = ["image_id", "key", "image"]
    table = pa.concat_tables([read_unit(unit, Layout(), []).select(columns) for unit in units])
    pq.write_table(table, path, row_group_size=64)
    return int(table.num_rows)


def read_scene_numbers(path: str) -> dict[str, int]:
    """The scene that each image of `write_requests` shows, by the image's id."""
    rows = pq.read_table(path, columns=["image_id", "key"]).to_pylist()
    return {row["image_id"]: int(row["key"]) for row in rows}


def draw_true_turns(turns: Sequence[Turn], scene_number: int) -> None:
    """Replaces what a random model wrote by true questions and answers of the same kinds."""
    scene, rng = draw_scene(scene_number), random.Random(scene_number)
    for turn in turns:
        turn["question"], turn["answer"] = draw_turn(scene, turn["kind"], rng)
        turn["status"], turn["reply"] = "ok", None


def write_random_model(folder: Path) -> Path:
    """A random LLaVA of about 100M parameters that vLLM loads; an image has IMAGE_TOKENS."""
    write_checkpoint(folder, SIZES["100m"], IMAGE_TOKENS)
    file = folder / "model.safetensors"
    # The names of the published checkpoints, which vLLM wants and transformers drops.
    weights = {
        name.replace("vision_tower.", "vision_tower.vision_model."): weight
        for name, weight in load_file(file).items()
    }
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def choose_cache_gib(model: str, max_len: int) -> int:
    """The cache that an engine on a CPU needs to start: two requests of this length in float32."""
    from transformers import AutoConfig

    return count_cache_gib(AutoConfig.from_pretrained(model).get_text_config(), max_len)


def count_cache_gib(text: Any, max_len: int) -> int:
    """As `choose_cache_gib`, of the config of a model's language half."""
    num_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    token_bytes = 2 * text.num_hidden_layers * num_heads * width * FLOAT_BYTES
    return max(1, math.ceil(2 * max_len * token_bytes / 2**30))
