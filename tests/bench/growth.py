"""How time and memory grow with rows and shards: `python -m tests.bench.growth [--quick]`.

Seconds of the clock and of the CPU, and peak memory, of what one process does alone: the job before
it starts, which lists, reads indexes and joins small shards, and `jobs.select`. Indexing is what
workers do, one shard each. Rows are made of the worked example, with one image of 1 KB for all; the
shards are Parquet files of one row, or tars of one image; no model takes part. Each step of each
size runs in a process of its own, once its input is in memory. A count that grows tenfold should
take ten times as long. `--rows` and `--shards` set the largest counts.
"""

import argparse
import gc
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray.dataset.select import select_turns
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.index import read_units, write_units
from c3l_ray.inputs.joins import join_small_units
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.read import index_shard
from c3l_ray.inputs.units import Shard, Unit
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
SMALLEST_ROWS, SMALLEST_SHARDS = 1_000, 10
Step = Callable[[Path], Callable[[], Any]]
"""Reads what a step needs from the folder, and returns the work that is measured."""


@dataclass(frozen=True)
class Cost:
    """Of a step: seconds of the clock and of the CPU, and by how many MiB its process grew."""

    wall_s: float
    cpu_s: float
    mib: float


def write_run(path: Path, num_rows: int) -> None:
    """A run of this many images, whose turns differ in their scores."""
    folder = open_run(path)
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


def write_parquet_shards(folder: Path, num_shards: int) -> None:
    """Files of one row, as a job joins them."""
    (folder / "in").mkdir()
    table = pa.table({"image": [encode_png(draw_scene(0))]})
    for number in range(num_shards):
        pq.write_table(table, folder / "in" / f"{number:06d}.parquet")


def write_tars(folder: Path, num_shards: int) -> None:
    """Tars of one image."""
    (folder / "in").mkdir()
    image = encode_png(draw_scene(0))
    for number in range(num_shards):
        write_shard(folder / "in" / f"{number:06d}.tar", [(f"{number}.png", image)])


def list_shards(folder: Path) -> list[Shard]:
    return find_shards((str(folder / "in"),), Layout())


def open_run(folder: Path) -> RunFolder:
    return RunFolder.open(str(folder / "run"))


def read_all_units(run: RunFolder, shards: list[Shard]) -> list[Unit]:
    return [unit for shard in shards for unit in read_units(run, shard) or []]


def begin_listing(folder: Path) -> Callable[[], Any]:
    return lambda: list_shards(folder)


def begin_indexing(folder: Path) -> Callable[[], Any]:
    run, shards = open_run(folder), list_shards(folder)

    def index() -> None:
        for shard in shards:
            write_units(run, shard, index_shard(shard, Layout()))

    return index


def begin_reading_indexes(folder: Path) -> Callable[[], Any]:
    run, shards = open_run(folder), list_shards(folder)
    return lambda: read_all_units(run, shards)


def begin_joining(folder: Path) -> Callable[[], Any]:
    run = open_run(folder)
    units = read_all_units(run, list_shards(folder))

    def join() -> None:
        joined = join_small_units(units, run)
        assert sum(unit.rows for unit in joined) == len(units)
        assert all(unit.format == "joined" for unit in joined), "nothing was joined"

    return join


def begin_selecting(folder: Path) -> Callable[[], Any]:
    """The choice alone: what it writes is one image, however many rows there are."""
    config = SelectConfig(input=str(folder / "run"), output=str(folder / "best"), top=1)
    return lambda: select_turns(config)


def measure_cost(step: Step, folder: Path) -> Cost:
    """What a step costs in this process."""
    work = step(folder)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak until now is forgotten
    before = read_peak_mib()
    started, cpu_started = time.perf_counter(), time.process_time()
    work()
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    return Cost(wall_s, cpu_s, read_peak_mib() - before)


def read_peak_mib() -> float:
    """The most memory that this process has had since its peak was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(kib) / 1024


def measure_size(
    write: Callable[[Path, int], None], steps: dict[str, Step], count: int
) -> dict[str, Cost]:
    """The cost of each step over one input, in a process of its own."""
    folder = Path(tempfile.mkdtemp())
    try:
        write(folder, count)
        costs = {}
        for name, step in steps.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                costs[name] = process.submit(measure_cost, step, folder).result()
        return costs
    finally:
        shutil.rmtree(folder)


def list_counts(smallest: int, largest: int) -> list[int]:
    """Each ten times the one before, the last one cut to the largest."""
    counts = [smallest]
    while counts[-1] < largest:
        counts.append(min(counts[-1] * 10, largest))
    return counts


READING: dict[str, Step] = {
    "list": begin_listing,
    "index": begin_indexing,
    "read indexes": begin_reading_indexes,
}
SIZES: list[tuple[str, Callable[[Path, int], None], dict[str, Step]]] = [
    ("row", write_run, {"select": begin_selecting}),
    ("Parquet file", write_parquet_shards, {**READING, "join": begin_joining}),
    ("tar", write_tars, READING),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the two smallest sizes of each")
    parser.add_argument("--rows", type=int, default=100_000, help="at most (default: 100,000)")
    parser.add_argument("--shards", type=int, default=10_000, help="at most (default: 10,000)")
    options = parser.parse_args()
    print("| what | count | s | CPU s | ms for each | MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for name, write, steps in SIZES:
        is_of_rows = name == "row"
        largest = options.rows if is_of_rows else options.shards
        counts = list_counts(SMALLEST_ROWS if is_of_rows else SMALLEST_SHARDS, largest)
        for count in counts[: 2 if options.quick else None]:
            for step, cost in measure_size(write, steps, count).items():
                print(
                    f"| {step}, by {name} | {count:,} | {cost.wall_s:.2f} | {cost.cpu_s:.2f} "
                    f"| {1000 * cost.wall_s / count:.3f} | {cost.mib:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
