"""How time and memory grow with rows and shards: `python -m tests.bench.growth [--quick]`.

CPU seconds and peak memory of what one process does alone: the job before it starts, which lists,
reads indexes and joins small shards, and `jobs.select`. Indexing is what workers do, one shard
each. Rows are made of the worked example, without images; no model takes part. Each size runs in a
process of its own. A count that grows tenfold should take ten times as long, and the job's memory
should hardly grow.
"""

import argparse
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from c3l_ray.dataset.select import select_turns
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.index import read_units, write_units
from c3l_ray.inputs.joins import join_small_units
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.read import index_shard
from c3l_ray.runs.commit import commit_unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.world import encode_png, write_shard
from c3l_ray.schema import STAGED_ROWS, conform
from c3l_ray.select_config import SelectConfig
from tests.examples import RECORD
from tests.runs.tables import make_report

UNIT_ROWS = 256
TURNS_PER_IMAGE = 5
ROWS = (1_000, 10_000, 100_000)
SHARDS = (10, 100, 1_000, 10_000)
Seconds = dict[str, float]


def write_run(path: Path, num_rows: int) -> None:
    """A run of this many images, whose turns differ in their scores."""
    folder = RunFolder.open(str(path))
    folder.write_json("run.json", make_report())
    image = encode_png(draw_scene(0))
    example = {**RECORD["turns"][0], "status": "ok"}
    for first in range(0, num_rows, UNIT_ROWS):
        numbers = range(first, min(first + UNIT_ROWS, num_rows))
        turns = [
            [
                {**example, "scores": {**example["scores"], "i2c": (number * 7919 % 9973) + place}}
                for place in range(TURNS_PER_IMAGE)
            ]
            for number in numbers
        ]
        unit = f"u-{first:08d}"
        staged = conform(
            {
                "image_id": [f"{number:016x}" for number in numbers],
                "key": [str(number) for number in numbers],
                "source": ["a.tar"] * len(numbers),
                "image": [image] * len(numbers),
                "turns": turns,
                "unit": [unit] * len(numbers),
                "unit_rows": [len(numbers)] * len(numbers),
            },
            STAGED_ROWS,
        )
        commit_unit(folder, unit, "a.tar", staged, "o")


def measure_select(folder: Path, num_rows: int) -> Seconds:
    """Of the choice alone: what it writes is one image, however many rows there are."""
    started = time.process_time()
    select_turns(SelectConfig(input=str(folder / "run"), output=str(folder / "best"), top=1))
    return {"select": time.process_time() - started}


def write_shards(folder: Path, num_shards: int) -> None:
    folder.mkdir()
    image = encode_png(draw_scene(0))
    for number in range(num_shards):
        write_shard(folder / f"{number:06d}.tar", [(f"{number}.png", image)])


def measure_shards(folder: Path, num_shards: int) -> Seconds:
    run = RunFolder.open(str(folder / "run"))
    seconds: Seconds = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.process_time()
        result = work()
        seconds[name] = time.process_time() - started
        return result

    shards = timed("list", lambda: find_shards((str(folder / "in"),), Layout()))
    assert len(shards) == num_shards

    def index() -> None:
        for shard in shards:
            write_units(run, shard, index_shard(shard, Layout()))

    timed("index", index)
    indexes = timed("read indexes", lambda: [read_units(run, shard) for shard in shards])
    units = [unit for units_of_shard in indexes for unit in units_of_shard or []]
    timed("join", lambda: join_small_units(units, run))
    return seconds


def measure_growth(
    measure: Callable[[Path, int], Seconds], folder: Path, count: int
) -> tuple[Seconds, float]:
    """CPU seconds by step, and by how many MiB this process grew."""
    Path("/proc/self/clear_refs").write_text("5")  # the imports' peak is forgotten
    before = read_peak_mib()
    seconds = measure(folder, count)
    return seconds, read_peak_mib() - before


def read_peak_mib() -> float:
    """The most memory that this process has had since its peak was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(kib) / 1024


def measure_size(
    measure: Callable[[Path, int], Seconds], write: Callable[[Path, int], None], count: int
) -> tuple[Seconds, float]:
    """As `measure_growth`, in a process of its own."""
    folder = Path(tempfile.mkdtemp())
    try:
        write(folder, count)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            return process.submit(measure_growth, measure, folder, count).result()
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the two smallest sizes of each")
    options = parser.parse_args()
    kept = 2 if options.quick else None
    print("| what | count | CPU s | CPU ms for each | MiB |\n| --- | ---: | ---: | ---: | ---: |")
    for name, counts, measure, write in (
        ("row", ROWS, measure_select, lambda folder, count: write_run(folder / "run", count)),
        ("shard", SHARDS, measure_shards, lambda folder, count: write_shards(folder / "in", count)),
    ):
        for count in counts[:kept]:
            seconds, mib = measure_size(measure, write, count)
            for step, spent in seconds.items():
                print(
                    f"| {step}, by {name} | {count:,} | {spent:.2f} | {1000 * spent / count:.3f} "
                    f"| {mib:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
