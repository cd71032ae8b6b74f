"""The whole pipeline against the bare engine and what others do: `python -m tests.bench.pipeline`.

The same model, images, prompts, sampling and threads; every arm is a process of its own, and the
arms alternate. Rates are of the steady state: boot and drain stand apart. `--quick` takes the
shipped tiny model and 16 scenes; without it a random model of about 100M parameters follows, over
photographs of 640 x 480 and 1,600 x 1,200 pixels. `--model.name NAME` takes that model instead, on
a GPU where there is one. On a machine that does other work too, only CPU milliseconds and their
ratios (`*_cpu_*`) can be compared. Ends with lines `ratio NAME MEDIAN MIN MAX`.
"""

import argparse
import dataclasses
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray spells it so
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch

from c3l_ray.runs.commit import read_manifests
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes import world
from tests.bench.pipeline_work import (
    Measurement,
    Setting,
    measure,
    run_arm,
    start_other,
    write_input,
    write_random_model,
    write_requests,
)

BATCHED = ("ray", "hf")
NAMES = {
    "bare": "bare: vLLM's offline loop",
    "ours": "ours: jobs.generate --no-score",
    "ray": "plain Ray: a blocking generate a batch",
    "hf": "Hugging Face: generate by batch",
    "score": "bare packed scoring, CLIP",
    "scored": "ours: jobs.generate, scored",
}
Round = dict[str, Measurement]


@dataclasses.dataclass(frozen=True)
class Cell:
    """What is measured: a model over images.

    Attributes:
        name: in ratios.
        model: name or path; None makes the random one.
        photos: whether the images are photographs, or scenes.
        num_images: in all.
        max_tokens: of a reply.
        max_len: of a prompt and its reply, in tokens.
    """

    name: str
    model: str | None
    photos: bool
    num_images: int
    max_tokens: int
    max_len: int


def run_ours(folder: Path, setting: Setting, *, scored: bool) -> Measurement:
    """Our own job, from the tars to committed Parquet."""
    output = folder / ("scored" if scored else "ours")
    shutil.rmtree(output, ignore_errors=True)
    flags = {
        "--input": setting.input,
        "--output": str(output),
        "--model.name": setting.model,
        "--model.dtype": setting.dtype,
        "--model.max-len": setting.max_len,
        "--model.max-seqs": setting.max_seqs,
        "--sampling.max-tokens": setting.max_tokens,
        "--sampling.temperature": setting.temperature,
        "--turns-per-image": setting.turns,
        "--reply-format": setting.reply_format,
        "--max-failed-share": 1,
    }
    if scored:
        flags |= {"--clip.name": str(world.CLIP), "--scorer.dtype": setting.dtype}
    words = [str(word) for flag in flags.items() for word in flag]
    command = [sys.executable, "-m", "jobs.generate", *words, *([] if scored else ["--no-score"])]
    started, series = run_arm(command, folder / f"{output.name}.log")
    manifests = [manifest for manifest in read_manifests(RunFolder.open(str(output)))]
    ends = [
        (output / "manifests" / f"{manifest.unit}.json").stat().st_mtime for manifest in manifests
    ]
    # A unit is begun as long before its commit as its stages took, at the latest.
    begin = min(
        end - sum(manifest.counts.seconds.values())
        for end, manifest in zip(ends, manifests, strict=True)
    )
    done = sorted(
        (end, manifest.counts.images) for end, manifest in zip(ends, manifests, strict=True)
    )
    counts = sum((manifest.counts for manifest in manifests), Counts())
    return dataclasses.replace(measure(started, series, begin, done), tokens=counts.tokens)


def run_rounds(cell: Cell, folder: Path, options: argparse.Namespace) -> Iterator[Round]:
    """Every arm in turn, as often as asked for."""
    model = cell.model or str(write_random_model(folder / "model"))
    input_ = write_input(
        folder / "in",
        num_images=cell.num_images,
        images_per_shard=max(1, cell.num_images // 8),
        photos=cell.photos,
    )
    write_requests(input_, folder / "requests.parquet")
    setting = Setting(
        model=model,
        dtype="bfloat16" if torch.cuda.is_available() else "float32",
        max_len=cell.max_len,
        max_seqs=256 if torch.cuda.is_available() else 32,
        max_tokens=cell.max_tokens,
        temperature=0.7,
        turns=5,
        input=str(input_),
        requests=str(folder / "requests.parquet"),
    )
    sizes = {arm: options.batch_sizes for arm in BATCHED}
    for _ in range(options.repeats):
        results: Round = {}
        for arm in ("bare", "ours", *BATCHED):
            if arm in options.without:
                continue
            tried: dict[int, Measurement] = {}
            for size in sizes.get(arm, [0]):
                shutil.rmtree(folder / "ray-output", ignore_errors=True)
                dataclasses.replace(setting, batch_size=size).write(folder)
                is_ours = arm == "ours"
                tried[size] = (
                    run_ours(folder, setting, scored=False) if is_ours else start_other(arm, folder)
                )
            best = max(tried, key=lambda size: tried[size].steady_rate)
            results[arm], sizes[arm] = tried[best], [best]
        if count_good_turns(folder / "ours") >= cell.num_images:
            results["score"] = start_other("score", folder)
            results["scored"] = run_ours(folder, setting, scored=True)
        yield results


def count_good_turns(output: Path) -> int:
    manifests = read_manifests(RunFolder.open(str(output)))
    return sum(manifest.counts.turn_status.get("ok", 0) for manifest in manifests)


def compute_ratios(results: Round) -> dict[str, float]:
    """Of one round: rates over the bare engine's, and CPU times of the bare engine over others'."""
    bare = results["bare"]
    ratios = {}
    for arm in ("ours", *BATCHED):
        if arm in results:
            ratios[f"{arm}_over_bare"] = results[arm].steady_rate / bare.steady_rate
            ratios[f"{arm}_over_bare_cpu"] = bare.cpu_ms / results[arm].cpu_ms
    if "scored" in results:
        scored, score = results["scored"], results["score"]
        # On a GPU the two share it; on CPUs each has a core of its own.
        rates = (bare.steady_rate, score.steady_rate)
        is_shared = torch.cuda.is_available()
        limit = 1 / sum(1 / rate for rate in rates) if is_shared else min(rates)
        ratios["scored_over_parts"] = scored.steady_rate / limit
        ratios["scored_over_parts_cpu"] = (bare.cpu_ms + score.cpu_ms) / scored.cpu_ms
    return ratios


def print_table(rounds: list[Round]) -> None:
    """The medians over the rounds."""
    print("| arm | images/s | CPU ms an image | boot s | drain s | tokens |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for arm, name in NAMES.items():
        of_arm = [results[arm] for results in rounds if arm in results]
        if of_arm:
            fields = ("steady_rate", "cpu_ms", "boot_s", "drain_s", "tokens")
            rate, cpu_ms, boot_s, drain_s, tokens = (
                statistics.median(getattr(measured, field) for measured in of_arm)
                for field in fields
            )
            print(
                f"| {name} | {rate:.2f} | {cpu_ms:.1f} | {boot_s:.1f} | {drain_s:.1f} "
                f"| {tokens:.0f} |"
            )
    if not any("scored" in results for results in rounds):
        print("nothing was scored: this model writes too few turns that can be read")


def list_cells(options: argparse.Namespace) -> list[Cell]:
    num_images = options.images
    if options.model_name:
        return [Cell("model", options.model_name, True, num_images or 512, 256, 8192)]
    few = 16 if options.quick else 512
    tiny = Cell("tiny", str(world.LLAVA), False, num_images or few, 96, 512)
    large = Cell("100m", None, True, num_images or 64, 32, 1024)
    return [tiny] if options.quick else [tiny, large]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the tiny model, 16 images, one round")
    parser.add_argument("--model.name", dest="model_name", help="a model in place of both")
    parser.add_argument("--images", type=int, help="in all")
    parser.add_argument("--repeats", type=int, help="rounds (default: 3)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16], help="that peers try")
    parser.add_argument("--without", nargs="*", default=[], choices=BATCHED, help="arms to skip")
    options = parser.parse_args()
    options.repeats = options.repeats or (1 if options.quick else 3)
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores"
    )
    print(f"torch {torch.__version__}, {device}, load {os.getloadavg()[0]:.1f} at the start")
    lines = []
    for cell in list_cells(options):
        with tempfile.TemporaryDirectory() as temporary:
            rounds = list(run_rounds(cell, Path(temporary), options))
        print(f"\n{cell.name}, {cell.num_images} images, {len(rounds)} rounds")
        print_table(rounds)
        ratios = [compute_ratios(results) for results in rounds]
        for name in ratios[0]:
            values = [of_round[name] for of_round in ratios if name in of_round]
            median = statistics.median(values)
            lines.append(
                f"ratio {name}_{cell.name} {median:.3f} {min(values):.3f} {max(values):.3f}"
            )
    print("\n".join(["", *lines]))


if __name__ == "__main__":
    main()
