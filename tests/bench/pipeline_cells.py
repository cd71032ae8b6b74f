"""What `tests.bench.pipeline` measures: cells, which are models over images, and their rounds."""

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from c3l_ray.inference.engine_settings import choose_step_tokens
from c3l_ray.scenes import world
from tests.bench.pipeline_input import (
    choose_cache_gib,
    write_input,
    write_random_model,
    write_requests,
)
from tests.bench.pipeline_work import Setting, count_good_turns, run_ours, start_other
from tests.bench.steady import Measurement
from tests.bench.token_rate import find_gpu

NUM_UNITS = 32  # that our jobs read and commit, so that a rate has moments enough
TURNS = 5
CPU_STEP_TOKENS = 2048
ENGINE_SHARE = 0.63  # of a GPU, beside a scorer: 0.9 of the 0.7 that our jobs give a generator

BATCHED = ("ray", "hf")
ARMS = ("bare", "ours", *BATCHED, "score", "scored")
"""In the order of the first round; `score` reads the turns of an earlier `ours`."""
Round = dict[tuple[str, int], Measurement]
"""By arm and by images of a batch, 0 for arms without."""


@dataclasses.dataclass
class Results:
    """What the rounds gave.

    Attributes:
        settings: of each cell.
        rounds: of each cell; an arm that failed is left out of its round.
        failures: a message of each.
    """

    settings: dict[str, Setting] = dataclasses.field(default_factory=dict)
    rounds: dict[str, list[Round]] = dataclasses.field(default_factory=dict)
    failures: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """What is measured: a model over images.

    Attributes:
        name: in ratios.
        model: name or path; None makes the random one, whose replies cannot be read.
        photos: whether the images are photographs, or scenes.
        num_images: in all.
        max_tokens: of a reply.
        max_len: of a prompt and its reply, in tokens.
        max_seqs: that the engine works on at once.
        repeated: arms of every round.
        once: arms of the first rounds only, one unless more are asked for.
    """

    name: str
    model: str | None
    photos: bool
    num_images: int
    max_tokens: int
    max_len: int
    max_seqs: int
    repeated: tuple[str, ...]
    once: tuple[str, ...] = ()


def list_cells(*, quick: bool, model: str | None, num_images: int | None) -> list[Cell]:
    """The cells that are asked for.

    Args:
        quick: only the tiny model over a few scenes, every arm once.
        model: that is measured in place of the others.
        num_images: of each cell, in place of its own number.
    """
    on_gpu = has_gpu()
    large_cell = Cell(
        name="model",
        model=model,
        photos=True,
        num_images=num_images or (2048 if on_gpu else 64),
        max_tokens=256,
        max_len=8192 if on_gpu else 4096,
        max_seqs=256 if on_gpu else 16,
        repeated=("bare", "ours", "score", "scored"),
        once=BATCHED,
    )
    if model is not None:
        return [large_cell]
    tiny = Cell(
        name="tiny",
        model=str(world.LLAVA),
        photos=False,
        num_images=num_images or (16 if quick else 320),
        max_tokens=96,
        max_len=512,
        max_seqs=32,
        repeated=("bare", "ours"),
        once=(*BATCHED, "score", "scored"),
    )
    if quick:
        return [tiny]
    photos = dataclasses.replace(
        tiny, name="tiny_photos", photos=True, num_images=num_images or 160, once=()
    )
    hundred = dataclasses.replace(
        large_cell,
        name="100m",
        num_images=num_images or 64,
        max_tokens=16,
        max_len=1024,
        max_seqs=16,
    )
    return [tiny, photos, hundred]


def has_gpu() -> bool:
    """Whether models compute on a GPU here; torch is asked for nothing that begins a context."""
    return torch.version.cuda is not None and find_gpu() is not None


def choose_steps(max_len: int) -> int:
    """Tokens of one step, the same for all arms: vLLM's defaults differ by how it is called."""
    gpu = find_gpu() if has_gpu() else None
    if gpu is None:
        return max(CPU_STEP_TOKENS, max_len)  # whole prompts, since chunks are off there
    name, gib = gpu
    return choose_step_tokens(None, gpu_gib=gib, gpu_name=name, share=ENGINE_SHARE)


def prepare(cell: Cell, folder: Path) -> Setting:
    """Writes a cell's images and its model, and returns what its arms do."""
    model = cell.model or str(write_random_model(folder / "model"))
    input_ = write_input(
        folder / "in",
        num_images=cell.num_images,
        images_per_shard=max(1, cell.num_images // NUM_UNITS),
        photos=cell.photos,
    )
    requests = folder / "requests.parquet"
    write_requests(input_, requests)
    on_gpu = has_gpu()
    return Setting(
        model=model,
        on_gpu=on_gpu,
        dtype="bfloat16" if on_gpu else "float32",
        max_len=cell.max_len,
        max_seqs=cell.max_seqs,
        step_tokens=choose_steps(cell.max_len),
        max_tokens=cell.max_tokens,
        temperature=0.7,
        cache_gib=1 if on_gpu else choose_cache_gib(model, cell.max_len),
        turns=TURNS,
        input=str(input_),
        requests=str(requests),
        draws_turns=cell.model is None,
    )


def run_round(
    cell: Cell,
    folder: Path,
    setting: Setting,
    arms: tuple[str, ...],
    batch_sizes: list[int],
    failures: list[str],
) -> Round:
    """The arms in this order, each with a line when it has ended; a failure ends no other arm."""
    results: Round = {}
    for arm in arms:
        if arm in ("score", "scored") and not has_turns(cell, folder):
            continue
        for size in batch_sizes if arm in BATCHED else [0]:
            name = f"{cell.name} {arm}{f' {size}' if size else ''}"
            of_arm = dataclasses.replace(setting, batch_size=size)
            try:
                if arm in ("ours", "scored"):
                    measured = run_ours(folder, of_arm, scored=arm == "scored")
                else:
                    measured = start_other(arm, folder, of_arm)
            except (RuntimeError, OSError) as error:  # or it left no notes
                failures.append(f"{name} failed: {error}")
                print(failures[-1], flush=True)
                continue
            results[arm, size] = measured
            rate, wall_s = measured.steady_rate, measured.wall_s
            print(f"{name}: {rate:.2f} images/s, {wall_s:.0f} s in all", flush=True)
    return results


def has_turns(cell: Cell, folder: Path) -> bool:
    """Whether there is about a turn an image to score: drawn, or that the model wrote."""
    ours = folder / "ours"
    return cell.model is None or (ours.exists() and count_good_turns(ours) >= cell.num_images)


def choose_arms(
    cell: Cell, number: int, *, num_once: int, without: tuple[str, ...]
) -> tuple[str, ...]:
    """The arms of a round in their order, which every other round reverses.

    Args:
        cell: that is measured.
        number: of the round, from 0 on.
        num_once: first rounds that have the arms of `once`.
        without: arms to skip.
    """
    chosen = {*cell.repeated, *(cell.once if number < num_once else ())} - {*without}
    arms = tuple(arm for arm in ARMS if arm in chosen)
    return arms[::-1] if number % 2 else arms


def run_rounds(
    cells: list[Cell],
    folder: Path,
    *,
    repeats: int,
    num_once: int,
    without: tuple[str, ...],
    batch_sizes: list[int],
    minutes: float,
) -> Results:
    """The rounds of each cell; a round of each cell is done before the next of any.

    A round after the first is left out where it would not end in time, by what its arms took.

    Args:
        cells: to measure.
        folder: to work in.
        repeats: rounds of each cell at most.
        num_once, without: as of `choose_arms`.
        batch_sizes: that peers try.
        minutes: for all.
    """
    started = time.monotonic()
    results = Results(rounds={cell.name: [] for cell in cells})
    for number in range(repeats):
        for cell in cells:
            arms = choose_arms(cell, number, num_once=num_once, without=without)
            past = results.rounds[cell.name]
            if past:
                spent_s = time.monotonic() - started
                needed_s = sum(measured.wall_s for arm, measured in each_of(past[0], arms))
                if spent_s + needed_s > 60 * minutes:
                    print(f"{cell.name}: round {number + 1} would not end within {minutes:g} min")
                    continue
            of_cell = folder / cell.name
            if not past:
                of_cell.mkdir()
                results.settings[cell.name] = prepare(cell, of_cell)
            setting = results.settings[cell.name]
            past.append(run_round(cell, of_cell, setting, arms, batch_sizes, results.failures))
    return results


def each_of(results: Round, arms: tuple[str, ...]) -> Iterator[tuple[str, Measurement]]:
    """The results of these arms, of all their batch sizes."""
    return ((arm, measured) for (arm, _), measured in results.items() if arm in arms)


def describe_machine() -> str:
    gpu = find_gpu() if has_gpu() else None
    device = f"{os.cpu_count()} cores" if gpu is None else gpu[0]
    return f"torch {torch.__version__}, {device}, load {os.getloadavg()[0]:.1f} at the start"
