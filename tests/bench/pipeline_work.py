"""How `tests.bench.pipeline` runs an arm: as a process of its own, whose CPU time is watched.

An arm writes when its work began, after its boot, and when images were done.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from c3l_ray.runs.commit import Manifest, read_manifests
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes import world
from c3l_ray.schema import EXCEPTION, FATAL
from tests.bench.steady import Events, Measurement, measure

ROOT = Path(__file__).parent.parent.parent
SETTING = "setting.json"
GENERATED = "generated.txt"
"""Notes of a scored job: when its generator began, then when the turns of each image were there."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all arms do, as SETTING has it.

    Attributes:
        model: name or path.
        on_gpu: whether models compute on a GPU.
        dtype: of generator and scorer.
        max_len, max_seqs, step_tokens, max_tokens, temperature: as of jobs.generate.
        cache_gib: of the engine's cache on a CPU.
        turns: of an image.
        input: folder of the tars.
        requests: Parquet file of the same images with their ids.
        draws_turns: whether drawn true turns are scored in place of those that were generated.
        reply_format: "text" or "json".
        batch_size: images of a batch, for the arms that have batches.
    """

    model: str
    on_gpu: bool
    dtype: str
    max_len: int
    max_seqs: int
    step_tokens: int
    max_tokens: int
    temperature: float
    cache_gib: int
    turns: int
    input: str
    requests: str
    draws_turns: bool
    reply_format: str = "text"
    batch_size: int = 16

    @classmethod
    def read(cls, folder: Path) -> "Setting":
        return cls(**json.loads((folder / SETTING).read_text()))

    def write(self, folder: Path) -> None:
        (folder / SETTING).write_text(json.dumps(dataclasses.asdict(self)))

    def environment(self) -> dict[str, str]:
        """Of every arm; only the size of the cache can be the user's own."""
        cache = os.environ.get("VLLM_CPU_KVCACHE_SPACE", str(self.cache_gib))
        return {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "RAY_ADDRESS": "local",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "TOKENIZERS_PARALLELISM": "false",
            "VLLM_CPU_KVCACHE_SPACE": cache,
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_LOGGING_LEVEL": "WARNING",
        }


@dataclass(frozen=True)
class Ended:
    """A process that has ended: when it was, and its CPU seconds until moments of it."""

    started: float
    ended: float
    cpu: list[tuple[float, float]]


def run_arm(command: list[str], log: Path, environment: dict[str, str]) -> Ended:
    """Runs a command to its end.

    Raises:
        RuntimeError: it failed; the end of its log says why.
    """
    started = time.time()
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    seconds_of: dict[tuple[int, float], float] = {}
    series: list[tuple[float, float]] = [(started, 0.0)]
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
    return Ended(started, time.time(), series)


def start_other(arm: str, folder: Path, setting: Setting) -> Measurement:
    """Runs one of `pipeline_peers`, and returns how it did."""
    shutil.rmtree(folder / "ray-output", ignore_errors=True)
    setting.write(folder)
    command = [sys.executable, "-m", "tests.bench.pipeline_peers", arm, str(folder)]
    process = run_arm(command, folder / f"{arm}.log", setting.environment())
    noted = json.loads((folder / f"{arm}.json").read_text())
    noted["done"] = [(moment, images) for moment, images in noted["done"]]
    return measure(Events(**noted, **vars(process)))


def write_events(folder: Path, arm: str, **events: Any) -> None:
    (folder / f"{arm}.json").write_text(json.dumps(events))


def run_ours(folder: Path, setting: Setting, *, scored: bool) -> Measurement:
    """Our own job, from the tars to committed Parquet.

    Raises:
        RuntimeError: it failed, or rows failed in it for no fault of their own.
    """
    output = folder / ("scored" if scored else "ours")
    shutil.rmtree(output, ignore_errors=True)
    (folder / GENERATED).unlink(missing_ok=True)
    setting.write(folder)
    process = run_arm(
        make_command(output, setting, scored=scored),
        folder / f"{output.name}.log",
        setting.environment(),
    )
    manifests = list(read_manifests(RunFolder.open(str(output))))
    counts = sum((manifest.counts for manifest in manifests), Counts())
    unexpected = [
        counts.failure_examples[name] for name in {EXCEPTION, FATAL} & counts.reasons.keys()
    ]
    if unexpected:
        raise RuntimeError(f"images of {output.name} failed: {unexpected}")
    commits = [find_commit(output, manifest) for manifest in manifests]
    generated: list[float] = []
    if scored:
        begin, *generated = map(float, (folder / GENERATED).read_text().split())
    else:  # only the boot is taken from this: the engine's first unit is begun
        begin = min(
            end - manifest.counts.seconds["generate"]
            for end, manifest in zip(commits, manifests, strict=True)
        )
    done = [(end, manifest.counts.images) for end, manifest in zip(commits, manifests, strict=True)]
    return measure(
        Events(**vars(process), begin=begin, done=done, generated=generated, tokens=counts.tokens)
    )


def make_command(output: Path, setting: Setting, *, scored: bool) -> list[str]:
    """`jobs.generate`; where it scores, the same job with notes of its generator."""
    flags = {
        "--input": setting.input,
        "--output": str(output),
        "--model.name": setting.model,
        "--model.dtype": setting.dtype,
        "--model.max-len": setting.max_len,
        "--model.max-seqs": setting.max_seqs,
        "--model.step-tokens": setting.step_tokens,
        "--sampling.max-tokens": setting.max_tokens,
        "--sampling.temperature": setting.temperature,
        "--turns-per-image": setting.turns,
        "--reply-format": setting.reply_format,
        "--max-failed-share": 1,
    }
    if scored:
        flags |= {"--clip.name": str(world.CLIP), "--scorer.dtype": setting.dtype}
    words = [str(word) for flag in flags.items() for word in flag]
    job = "tests.bench.pipeline_scored" if scored else "jobs.generate"
    return [sys.executable, "-m", job, *words, *([] if scored else ["--no-score"])]


def find_commit(output: Path, manifest: Manifest) -> float:
    """When a unit was committed: a manifest is written once."""
    return (output / "manifests" / f"{manifest.unit}.json").stat().st_mtime


def count_good_turns(output: Path) -> int:
    manifests = read_manifests(RunFolder.open(str(output)))
    return sum(manifest.counts.turn_status.get("ok", 0) for manifest in manifests)
