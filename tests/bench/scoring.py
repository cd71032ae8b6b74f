"""Packed scoring against plain: `python -m tests.bench.scoring [--quick]`.

The same model, images, turns and thread; the scorers alternate in one process, and each ratio is
the median over these repeats. Plain puts a row for each turn and side into batches of the same
token budget; naive is a batch of one for each. Ends with lines `ratio NAME MEDIAN MIN MAX`.
"""

import argparse
import multiprocessing
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import psutil
import torch
from PIL import Image

from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.inference.scoring_model import ScoringModel, TurnToScore
from c3l_ray.model_config import ScorerModel
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.render import render_scene
from tests.bench.random_llava import SIZES, VOCABULARY, LlavaSize, write_checkpoint

TURN_TOKENS = 24  # of a turn beside its answer: template and question
NUM_TURNS = 5
MAX_TOKENS = 4096
WORDS = ("red", "circle", "the", "is", "at", "top", "left", "blue", "star", "large", "there")


def make_turns(model: ScoringModel, num_images: int, num_answer: int) -> list[TurnToScore]:
    """Turns whose text is of exactly TURN_TOKENS + `num_answer` tokens."""
    rng = random.Random(0)
    turns = []
    for seed in range(num_images):
        image = render_scene(draw_scene(seed)).resize((400, 300), Image.Resampling.BICUBIC)
        for _ in range(NUM_TURNS):
            answer = " ".join(rng.choices(WORDS, k=num_answer))
            words: list[str] = []
            while True:
                question = " ".join([*words, "red"])
                turn = TurnToScore(image=image, question=question, answer=answer)
                num_tokens = len(model.tokenize_turn(turn, with_image=False).ids)
                if num_tokens >= TURN_TOKENS + num_answer:
                    break
                words.append(rng.choice(WORDS))
            turns.append(turn)
    return turns


def make_scorers(model: ScoringModel) -> dict[str, Callable[[list[TurnToScore]], Any]]:
    """Each way of scoring as a function of the turns."""
    plain = PlainScorer(model)
    return {
        "packed": PackedScorer(model).measure,
        "plain": plain.measure,
        "naive": lambda turns: [plain.measure([turn])[0] for turn in turns],
    }


def measure_seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def timed_parts(model: ScoringModel) -> Iterator[dict[str, float]]:
    """Where the time of a pass goes, by part, in seconds."""
    spent = dict.fromkeys(("vision", "hidden", "head"), 0.0)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            result = function(*args, **kwargs)
            spent[name] += time.perf_counter() - started
            return result

        return call

    inner = model.vlm.model
    originals = model.hidden_states, model.compute_evidence, inner.get_image_features
    model.hidden_states = timed("hidden", originals[0])  # type: ignore[method-assign]
    model.compute_evidence = timed("head", originals[1])  # type: ignore[method-assign]
    inner.get_image_features = timed("vision", originals[2])
    try:
        yield spent
    finally:
        model.hidden_states, model.compute_evidence = originals[:2]  # type: ignore[method-assign]
        inner.get_image_features = originals[2]


def min_flops(size: LlavaSize, num_image: int, num_text: int, num_answer: int) -> float:
    """FLOPs of one image's pack: every weight times every token, and attention where allowed."""
    width, layers = size.text["hidden_size"], size.text["num_hidden_layers"]
    weights = layers * (4 * width**2 + 3 * width * size.text["intermediate_size"])
    tokens = num_image + 2 * NUM_TURNS * num_text
    attended = num_image**2 / 2 + NUM_TURNS * (num_image * num_text + 2 * num_text**2 / 2)
    head = 2 * NUM_TURNS * num_answer * VOCABULARY * width
    vision_width, vision_layers = size.vision["hidden_size"], size.vision["num_hidden_layers"]
    vision_weights = vision_layers * (
        4 * vision_width**2 + 2 * vision_width * size.vision["intermediate_size"]
    )
    vision = 2 * vision_weights * num_image + 4 * vision_layers * vision_width * num_image**2
    return 2 * weights * tokens + 4 * layers * width * attended + 2 * head + vision


def matmul_flops_per_s() -> float:
    """What a plain matrix product reaches on this core now."""
    left, right = torch.randn(1216, 640), torch.randn(640, 1728)
    num_products = 40
    fastest_s = min(
        measure_seconds(lambda: [left @ right for _ in range(num_products)]) for _ in range(3)
    )
    return num_products * 2 * 1216 * 640 * 1728 / fastest_s


def measure_peak_mib(work: Callable[[], Any]) -> float:
    """How much more memory the process holds at most while this runs than before it."""
    process = psutil.Process()
    before = process.memory_info().rss
    samples, ended = [before], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            samples.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    ended.set()
    watcher.join()
    return (max(samples) - before) / 2**20


def send_peak(folder: str, name: str, num_images: int, num_answer: int, results: Any) -> None:
    torch.set_num_threads(1)
    model = ScoringModel(ScorerModel(dtype="float32", max_tokens=MAX_TOKENS), folder)
    turns = make_turns(model, num_images, num_answer)
    make_scorers(model)["plain"](turns[:1])  # what any pass needs once
    results.put(measure_peak_mib(lambda: make_scorers(model)[name](turns)))


def measure_peaks(folder: Path, num_images: int, num_answer: int) -> dict[str, float]:
    """MiB by scorer, each in a process of its own: what one frees, another could use again."""
    context = multiprocessing.get_context("spawn")
    peaks = {}
    for name in ("packed", "plain"):
        results = context.Queue()
        args = (str(folder), name, num_images, num_answer, results)
        process = context.Process(target=send_peak, args=args)
        process.start()
        peaks[name] = results.get()
        process.join()
    return peaks


@dataclass(frozen=True)
class Cell:
    """One row of the benchmark's table."""

    size: str
    num_image: int  # tokens of an image
    num_answer: int  # tokens of an answer

    @property
    def num_text(self) -> int:
        return TURN_TOKENS + self.num_answer

    @property
    def num_images(self) -> int:
        return max(2, 1152 // self.num_image) if self.size == "tiny" else 2

    @property
    def token_limit(self) -> float:
        """How many times more tokens plain scoring computes than packed scoring."""
        plain = NUM_TURNS * (self.num_image + 2 * self.num_text)
        return plain / (self.num_image + 2 * NUM_TURNS * self.num_text)


GOAL = Cell("100m", 576, 40)
CELLS = [
    Cell(size, num_image, num_answer)
    for size in SIZES
    for num_image in (64, 256, 576)
    for num_answer in (8, 40)
]


def measure_cell(cell: Cell, num_repeats: int) -> tuple[dict[str, list[float]], list[str]]:
    """The seconds of every scorer and repeat, and for the cell of the goal where they go."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_checkpoint(Path(temporary), SIZES[cell.size], cell.num_image)
        model = ScoringModel(ScorerModel(dtype="float32", max_tokens=MAX_TOKENS), str(folder))
        turns = make_turns(model, cell.num_images, cell.num_answer)
        scorers = make_scorers(model)
        seconds: dict[str, list[float]] = {name: [] for name in scorers}
        scorers["packed"](turns)  # warms up
        for _ in range(num_repeats):
            for name, measure in scorers.items():
                seconds[name].append(measure_seconds(lambda: measure(turns)))  # noqa: B023
        profile = profile_packed(cell, model, turns, folder) if cell == GOAL else []
        return seconds, profile


def profile_packed(
    cell: Cell, model: ScoringModel, turns: list[TurnToScore], folder: Path
) -> list[str]:
    """Where the time and memory of packed scoring go, as lines to print."""
    packed = make_scorers(model)["packed"]
    with timed_parts(model) as spent:
        total_s = measure_seconds(lambda: packed(turns))
    flops_of_image = min_flops(SIZES[cell.size], cell.num_image, cell.num_text, cell.num_answer)
    share = cell.num_images * flops_of_image / matmul_flops_per_s() / total_s
    peaks = measure_peaks(folder, 2 * cell.num_images, cell.num_answer)
    return [
        f"profile of packed, {total_s:.2f} s: vision {spent['vision'] / total_s:.0%}, "
        f"language {(spent['hidden'] - spent['vision']) / total_s:.0%}, "
        f"head and scores {spent['head'] / total_s:.0%}, "
        f"rendering and packing {1 - (spent['hidden'] + spent['head']) / total_s:.0%}",
        f"share of the arithmetic limit (a plain float32 matmul of as many FLOPs): {share:.2f}",
        f"peak memory beyond the model: packed {peaks['packed']:.0f} MiB, "
        f"plain {peaks['plain']:.0f} MiB",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the cell of the goal, two repeats")
    parser.add_argument("--repeats", type=int, default=5, help="of each cell")
    options = parser.parse_args()
    torch.set_num_threads(1)
    num_repeats = 2 if options.quick else options.repeats
    print(
        f"{torch.__version__}, one thread, {NUM_TURNS} turns an image, budget {MAX_TOKENS} tokens"
    )
    print("| model | image tokens | answer | tokens plain/packed | plain/packed | naive/packed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    ratios: dict[str, list[float]] = {}
    profile: list[str] = []
    for cell in [GOAL] if options.quick else CELLS:
        seconds, cell_profile = measure_cell(cell, num_repeats)
        over_packed = {
            name: [slow / fast for slow, fast in zip(seconds[name], seconds["packed"], strict=True)]
            for name in ("plain", "naive")
        }
        plain, naive = (statistics.median(over_packed[name]) for name in ("plain", "naive"))
        print(
            f"| {cell.size} | {cell.num_image} | {cell.num_answer} | {cell.token_limit:.2f} "
            f"| {plain:.2f} | {naive:.2f} |",
            flush=True,
        )
        if cell == GOAL:
            profile = cell_profile
            ratios = {
                "packed_over_plain_100m_576": over_packed["plain"],
                "packed_over_naive_100m_576": over_packed["naive"],
                "packed_share_of_token_limit_100m_576": [
                    ratio / cell.token_limit for ratio in over_packed["plain"]
                ],
            }
    print("\n".join(["", *profile]))
    for name, values in ratios.items():
        print(f"ratio {name} {statistics.median(values):.3f} {min(values):.3f} {max(values):.3f}")


if __name__ == "__main__":
    main()
