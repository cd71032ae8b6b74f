"""Exactly once, tried out: jobs that read and commit are killed until they are done.

    python -m tests.faults.commit_kills --kills 300

A job is a process that does what the pipeline does with units, without models and Ray: it claims
the folder, indexes, joins, reads, commits and deletes lost files. It is killed with SIGKILL before
or after one of its writes, or at a random moment, alone or beside a second one on the same output.
Then the records are compared with those of a run that nobody killed.
"""

import dataclasses
import functools
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tyro

from c3l_ray import storage
from c3l_ray.identity import Identity
from c3l_ray.inputs import read
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.index import read_units, write_units
from c3l_ray.inputs.joins import join_small_units
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.runs.commit import commit_unit, read_manifests, read_records
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.lost_files import WRITTEN_FOLDERS, delete_lost_files
from c3l_ray.scenes.world import write_shard
from c3l_ray.schema import replace_columns
from c3l_ray.storage import Location
from tests.examples import RECORD

FORMATS = ("tar", "parquet", "folder", "llava")
NUM_SHARDS = 4
IMAGES_PER_SHARD = 9
UNIT_ROWS = 3
LONGEST_JOB_S = 0.2  # about; a random moment lies in it
IDENTITY = Identity({"schema": 5, "what": "kills"})


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What came of the kills: `found` of the `expected` rows are as they are to be.

    Attributes:
        kills: jobs that were killed.
        expected, found, duplicated: rows.
        redone_units: units that were computed again, since a job was killed before their commit.
        strays: files of records that no manifest names, and temporary files of any folder, once the
            job is done and its temporary files are old.
    """

    kills: int = 0
    expected: int = 0
    found: int = 0
    duplicated: int = 0
    redone_units: int = 0
    strays: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return Tally(**{name: mine[name] + theirs[name] for name in mine})

    def __str__(self) -> str:
        counts = dataclasses.asdict(self).items()
        return "faults " + " ".join(f"{name}={count}" for name, count in counts)


def write_input(folder: Path, format_: str) -> str:
    """An input of a format, and what --input says of it."""
    folder.mkdir(parents=True)
    for shard in range(NUM_SHARDS):
        images = {f"{shard}-{n}.jpg": f"{shard} {n}".encode() for n in range(IMAGES_PER_SHARD)}
        if format_ == "tar":
            write_shard(folder / f"{shard}.tar", images.items())
        elif format_ == "parquet":
            columns = {"image": [*images.values()], "key": [*images]}
            pq.write_table(pa.table(columns), folder / f"{shard}.parquet")
        else:
            (folder / f"{shard}").mkdir()
            for name, content in images.items():
                (folder / f"{shard}" / name).write_bytes(content)
    if format_ != "llava":
        return str(folder)
    lines = [
        f'{{"id": "{shard}-{n}", "image": "{shard}/{shard}-{n}.jpg", "conversations": '
        '[{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}'
        for shard in range(NUM_SHARDS)
        for n in range(IMAGES_PER_SHARD)
    ]
    (folder / "list.json").write_text(f"[{', '.join(lines)}]")
    return str(folder / "list.json")


def do_job(input_: str, output: str, computed: Path) -> None:
    """What the pipeline does, as one process; notes the units that it computes in a file."""
    read.UNIT_ROWS = UNIT_ROWS
    layout = TurnsLayout() if input_.endswith(".json") else Layout()
    shards = find_shards((input_,), layout)
    folder = RunFolder.open(output)
    folder.claim(IDENTITY, "generate")
    units = []
    for shard in shards:
        if read_units(folder, shard) is None:
            write_units(folder, shard, read.index_shard(shard, layout))
        units += read_units(folder, shard) or []
    units = join_small_units(units, folder)
    done = {manifest.unit for manifest in read_manifests(folder)}
    for unit in units:
        if unit.name not in done:
            table = read.read_unit(unit, layout)
            with computed.open("a") as file:
                file.write(f"{unit.name}\n")
            turns = table["turns"].to_pylist()
            table = replace_columns(table, turns=[row or RECORD["turns"] for row in turns])
            commit_unit(folder, unit.name, unit.source, table, IDENTITY.origin)
    delete_lost_files(folder)


def kill_at_write(number: int) -> None:
    """Has this process kill itself before, within or after one of its writes."""
    passed = [0]

    def reach_boundary() -> None:
        if passed[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        passed[0] += 1

    places = [(Location, name) for name in ("write", "write_if_absent", "remove")]
    for place, name in [*places, (storage, "_write_temporary")]:
        method: Callable[..., Any] = getattr(place, name)

        @functools.wraps(method)
        def bounded(*args: Any, method: Callable[..., Any] = method, **more: Any) -> Any:
            reach_boundary()
            result = method(*args, **more)
            reach_boundary()
            return result

        setattr(place, name, bounded)


def fork(work: Callable[[], None]) -> int:
    """The process that does some work and ends with 0, or with 1 where that raises."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def wait(process: int) -> bool:
    """Whether a process has finished; else it was killed.

    Raises:
        AssertionError: it failed.
    """
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return not os.WIFSIGNALED(status)


def kill_until_done(input_: str, output: str, computed: Path, chance: random.Random) -> int:
    """Begins the job again and again, and kills most of them; returns how many were killed."""
    kills = 0
    while True:
        boundary = chance.choice([None, chance.randrange(48)])

        def work(boundary: int | None = boundary) -> None:
            if boundary is not None:
                kill_at_write(boundary)
            do_job(input_, output, computed)

        processes = [fork(work) for _ in range(chance.choice([1, 1, 2]))]
        if boundary is None and chance.random() < 0.8:
            time.sleep(chance.random() * LONGEST_JOB_S)
            for process in processes:
                os.kill(process, signal.SIGKILL)
        finished = [wait(process) for process in processes]
        kills += finished.count(False)
        if all(finished):
            return kills


def list_rows(output: str) -> list[str]:
    """Each committed row as text, without what tells runs apart."""
    folder = RunFolder.open(output)
    tables = [read_records(folder, manifest) for manifest in read_manifests(folder)]
    return sorted(repr(row) for table in tables for row in table.to_pylist())


def count_strays(output: str) -> int:
    """Files in any folder of a run that nobody reads."""
    folder = RunFolder.open(output)
    named = {manifest.file for manifest in read_manifests(folder)}
    files = (folder.location / "records").list_children()
    strays = {file.path for file in files if f"records/{file.name}" not in named}
    for place in (folder.location, *(folder.location / name for name in WRITTEN_FOLDERS)):
        strays |= {file.path for file in place.list_children() if file.name.startswith(".")}
    return len(strays)


def try_format(format_: str, folder: Path, chance: random.Random) -> Tally:
    """Kills jobs over an input of a format until one run is done, and compares it with a clean one.

    Args:
        format_: of the input.
        folder: for input and outputs, new.
        chance: that decides when jobs are killed.
    """
    input_ = write_input(folder / "in", format_)
    clean, killed, computed = folder / "clean", folder / "killed", folder / "computed"
    assert wait(fork(lambda: do_job(input_, str(clean), folder / "once")))
    kills = kill_until_done(input_, str(killed), computed, chance)
    # As a command an hour later does.
    delete_lost_files(RunFolder.open(str(killed)), temporary_age_s=0)
    expected, found = list_rows(str(clean)), list_rows(str(killed))
    of_units = Counter(computed.read_text().split())
    return Tally(
        kills=kills,
        expected=len(expected),
        found=(Counter(expected) & Counter(found)).total(),
        duplicated=len(found) - len({*found}),
        redone_units=sum(of_units.values()) - len(of_units),
        strays=count_strays(str(killed)),
    )


def run(*, kills: int = 300, seed: int = 0) -> Tally:
    """Kills jobs over inputs of every format, at least so many times.

    Args:
        kills: at least.
        seed: of when they are killed.
    """
    chance = random.Random(seed)
    total = Tally()
    number = 0
    with tempfile.TemporaryDirectory() as folder:
        while total.kills < kills:
            format_ = FORMATS[number % len(FORMATS)]
            total += try_format(format_, Path(folder) / str(number), chance)
            number += 1
    return total


if __name__ == "__main__":
    tally = tyro.cli(run)
    print(tally)
    sys.exit(tally.found != tally.expected or tally.duplicated or tally.strays)
