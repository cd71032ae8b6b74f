"""What `tests.bench.pipeline` compares over: images, requests, models, and how a process is timed.

Every arm is a process of its own. It writes when its work began, after its boot, and when images
were done; whoever started it watches the CPU seconds of the process and of all its children.
"""

import dataclasses
import io
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from safetensors.torch import load_file, save_file

from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.read import index_shard, read_unit
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.render import render_scene
from tests.bench.random_llava import SIZES, write_checkpoint

STEADY_SHARE = 0.9
"""Of the images, until which the rate is taken; what follows is the drain."""
ROOT = Path(__file__).parent.parent.parent
PHOTO_SIZES = ((640, 480), (1600, 1200))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all arms do, as `setting.json` has it.

    Attributes:
        model: name or path.
        dtype: of generator and scorer.
        max_len, max_seqs, max_tokens, temperature: as of jobs.generate.
        turns: of an image.
        input: folder of the tars.
        requests: Parquet file of the same images with their ids.
        reply_format: "text" or "json".
        batch_size: images of a batch, for the arms that have batches.
    """

    model: str
    dtype: str
    max_len: int
    max_seqs: int
    max_tokens: int
    temperature: float
    turns: int
    input: str
    requests: str
    reply_format: str = "text"
    batch_size: int = 16

    @classmethod
    def read(cls, folder: Path) -> "Setting":
        return cls(**json.loads((folder / "setting.json").read_text()))

    def write(self, folder: Path) -> None:
        (folder / "setting.json").write_text(json.dumps(dataclasses.asdict(self)))


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """How an arm did.

    Attributes:
        images: done.
        tokens: generated, 0 where it is not known.
        boot_s: until its work began.
        drain_s: from STEADY_SHARE of the images to the last.
        steady_rate: images per second until then, boot apart.
        cpu_ms: CPU milliseconds of all its processes for an image, boot apart.
    """

    images: int
    tokens: int
    boot_s: float
    drain_s: float
    steady_rate: float
    cpu_ms: float


def write_input(folder: Path, *, num_images: int, images_per_shard: int, photos: bool) -> Path:
    """Tars of scenes, or of JPEGs of two sizes with their detail and noise, all different."""
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
            noise = rng.normal(0, 6, (size[1], size[0], 3))
            pixels = np.clip(np.asarray(scene, np.float64) + noise, 0, 255).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
            members.append((f"{number:06d}.jpg", buffer.getvalue()))
        world.write_shard(folder / f"photos-{first:06d}.tar", members)
    return folder


def write_requests(input_: Path, path: Path) -> int:
    """The images with the ids that our jobs give them, for the other arms; how many there are."""
    units = [
        unit
        for shard in find_shards((str(input_),), Layout())
        for unit in index_shard(shard, Layout())
    ]
    tables = [read_unit(unit, Layout(), []).select(["image_id", "image"]) for unit in units]
    table = pa.concat_tables(tables)
    pq.write_table(table, path, row_group_size=64)
    return int(table.num_rows)


def write_random_model(folder: Path) -> Path:
    """A random LLaVA of about 100M parameters that vLLM loads; an image has 256 tokens."""
    write_checkpoint(folder, SIZES["100m"], 256)
    file = folder / "model.safetensors"
    # The names of the published checkpoints, which vLLM wants and transformers drops.
    weights = {
        name.replace("vision_tower.", "vision_tower.vision_model."): weight
        for name, weight in load_file(file).items()
    }
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def write_events(folder: Path, arm: str, **events: Any) -> None:
    (folder / f"{arm}.json").write_text(json.dumps(events))


def run_arm(command: list[str], log: Path) -> tuple[float, list[tuple[float, float]]]:
    """Runs a command to its end: when it started, and its CPU seconds at many moments.

    Raises:
        RuntimeError: it failed; the end of its log says why.
    """
    started = time.time()
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    seconds_of: dict[tuple[int, float], float] = {}
    series: list[tuple[float, float]] = []
    ended = threading.Event()

    def watch() -> None:
        parent = psutil.Process(process.pid)
        while not ended.wait(0.25):
            try:
                family = [parent, *parent.children(recursive=True)]
            except psutil.Error:
                return
            for one in family:
                try:
                    times = one.cpu_times()
                    seconds_of[one.pid, one.create_time()] = times.user + times.system
                except psutil.Error:  # it has ended; what it took until then counts
                    continue
            series.append((time.time(), sum(seconds_of.values())))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    ended.set()
    watcher.join()
    if status:
        tail = log.read_text()[-2000:]
        raise RuntimeError(f"{' '.join(command)} ended with status {status}:\n{tail}")
    return started, series


def measure(
    started: float, series: list[tuple[float, float]], begin: float, done: list[tuple[float, int]]
) -> Measurement:
    """What the events of an arm come to.

    Args:
        started: when its process was.
        series: its CPU seconds at moments.
        begin: when its work began.
        done: moments, and how many images were done then, in order.
    """
    num_images, so_far = sum(images for _, images in done), 0
    steady_end, steady_images = done[-1][0], num_images
    for moment, images in done:
        so_far += images
        if so_far >= STEADY_SHARE * num_images:
            steady_end, steady_images = moment, so_far
            break
    moments, seconds = zip(*series, strict=True)
    cpu_begin, cpu_end = np.interp([begin, done[-1][0]], moments, seconds)
    return Measurement(
        images=num_images,
        tokens=0,
        boot_s=begin - started,
        drain_s=done[-1][0] - steady_end,
        steady_rate=steady_images / max(steady_end - begin, 1e-3),
        cpu_ms=1000 * float(cpu_end - cpu_begin) / num_images,
    )


def start_other(arm: str, folder: Path) -> Measurement:
    """Runs one of `pipeline_peers`, and returns how it did."""
    command = [sys.executable, "-m", "tests.bench.pipeline_peers", arm, str(folder)]
    started, series = run_arm(command, folder / f"{arm}.log")
    events = json.loads((folder / f"{arm}.json").read_text())
    done = [(moment, images) for moment, images in events["done"]]
    measured = measure(started, series, events["begin"], done)
    return dataclasses.replace(measured, tokens=events["tokens"])
