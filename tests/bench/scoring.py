"""Packed scoring against plain: `python -m tests.bench.scoring [--quick]`.

The same model, images, turns and thread; the ways take turns in one process, and each ratio is the
median over these rounds. Plain puts a row for each turn and side into batches of the same token
budget; naive is a batch of one for each. Ends with lines `ratio NAME MEDIAN MIN MAX`.
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
from transformers import (
    AutoProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from c3l_ray.config import Scorer
from c3l_ray.inference.scoring_model import Asked, Frozen
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.plain_scorer import PlainScorer
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene, render

PATCH_PX = 14
TURN_TOKENS = 24  # of a turn beside its answer: template and question
NUM_TURNS = 5
MAX_TOKENS = 4096
WORDS = ("red", "circle", "the", "is", "at", "top", "left", "blue", "star", "large", "there")


@dataclass(frozen=True)
class Size:
    """A random LLaVA: its language half, and its vision tower."""

    text: dict[str, int]
    vision: dict[str, int]


SIZES = {
    "tiny": Size(
        {"hidden_size": 160, "intermediate_size": 448, "num_hidden_layers": 4, "num_heads": 5},
        {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_heads": 4},
    ),
    "100m": Size(
        {"hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 12, "num_heads": 10},
        {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_heads": 6},
    ),
}
VOCABULARY = 16_000


def checkpoint(folder: Path, size: Size, num_image_tokens: int) -> Path:
    """A random LLaVA with the shipped tokenizer, whose images have this many tokens."""
    side_px = round(num_image_tokens**0.5) * PATCH_PX
    processor = AutoProcessor.from_pretrained(world.LLAVA)
    processor.image_processor.size = {"height": side_px, "width": side_px}
    processor.patch_size = PATCH_PX
    torch.manual_seed(0)

    def heads(shape: dict[str, int]) -> dict[str, int]:
        shape = dict(shape)
        return {"num_attention_heads": shape.pop("num_heads"), **shape}

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            image_size=side_px, patch_size=PATCH_PX, **heads(size.vision)
        ),
        text_config=LlamaConfig(
            vocab_size=VOCABULARY, max_position_embeddings=4096, **heads(size.text)
        ),
        image_token_index=processor.tokenizer.convert_tokens_to_ids(processor.image_token),
        vision_feature_layer=-1,
        image_seq_length=num_image_tokens,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def turns(frozen: Frozen, num_images: int, num_answer: int) -> list[Asked]:
    """Turns whose text is of exactly TURN_TOKENS + `num_answer` tokens."""
    rng = random.Random(0)
    asked = []
    for seed in range(num_images):
        image = render(draw_scene(seed)).resize((400, 300), Image.Resampling.BICUBIC)
        for _ in range(NUM_TURNS):
            answer = " ".join(rng.choices(WORDS, k=num_answer))
            question: list[str] = []
            while True:
                turn = Asked(image=image, question=" ".join([*question, "red"]), answer=answer)
                if len(frozen.rendered(turn, image=False).ids) >= TURN_TOKENS + num_answer:
                    break
                question.append(rng.choice(WORDS))
            asked.append(turn)
    return asked


def ways(frozen: Frozen) -> dict[str, Callable[[list[Asked]], Any]]:
    plain = PlainScorer(frozen)
    return {
        "packed": PackedScorer(frozen).beliefs,
        "plain": plain.beliefs,
        "naive": lambda asked: [plain.beliefs([turn])[0] for turn in asked],
    }


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@contextmanager
def timed(frozen: Frozen) -> Iterator[dict[str, float]]:
    """Where the time of a pass goes, by part, in seconds."""
    spent = dict.fromkeys(("vision", "hidden", "head"), 0.0)

    def around(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            result = function(*args, **kwargs)
            spent[name] += time.perf_counter() - started
            return result

        return inner

    model = frozen.model.model
    kept = frozen.hidden, frozen.beliefs, model.get_image_features
    frozen.hidden = around("hidden", kept[0])  # type: ignore[method-assign]
    frozen.beliefs = around("head", kept[1])  # type: ignore[method-assign]
    model.get_image_features = around("vision", kept[2])
    try:
        yield spent
    finally:
        frozen.hidden, frozen.beliefs = kept[:2]  # type: ignore[method-assign]
        model.get_image_features = kept[2]


def least_flops(size: Size, num_image: int, num_text: int, num_answer: int) -> float:
    """Of one image's pack: every weight times every token, and attention to what may be seen."""
    width, layers = size.text["hidden_size"], size.text["num_hidden_layers"]
    weights = layers * (4 * width**2 + 3 * width * size.text["intermediate_size"])
    tokens = num_image + 2 * NUM_TURNS * num_text
    seen = num_image**2 / 2 + NUM_TURNS * (num_image * num_text + 2 * num_text**2 / 2)
    head = 2 * NUM_TURNS * num_answer * VOCABULARY * width
    v_width, v_layers = size.vision["hidden_size"], size.vision["num_hidden_layers"]
    v_weights = v_layers * (4 * v_width**2 + 2 * v_width * size.vision["intermediate_size"])
    vision = 2 * v_weights * num_image + 4 * v_layers * v_width * num_image**2
    return 2 * weights * tokens + 4 * layers * width * seen + 2 * head + vision


def matmul_flops_per_s() -> float:
    """What a plain matrix product reaches on this core now."""
    one, other = torch.randn(1216, 640), torch.randn(640, 1728)
    repeats = 40
    took = min(seconds(lambda: [one @ other for _ in range(repeats)]) for _ in range(3))
    return repeats * 2 * 1216 * 640 * 1728 / took


def peak_mib(work: Callable[[], Any]) -> float:
    """How much more memory the process holds at most, while this runs, than before it."""
    process = psutil.Process()
    before = process.memory_info().rss
    highest, ended = [before], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            highest.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    ended.set()
    watcher.join()
    return (max(highest) - before) / 2**20


def peak_of(folder: str, way: str, num_images: int, num_answer: int, sent: Any) -> None:
    torch.set_num_threads(1)
    frozen = Frozen(Scorer(dtype="float32", max_tokens=MAX_TOKENS), folder)
    asked = turns(frozen, num_images, num_answer)
    ways(frozen)["plain"](asked[:1])  # what any pass needs once
    sent.put(peak_mib(lambda: ways(frozen)[way](asked)))


def peaks(folder: Path, num_images: int, num_answer: int) -> dict[str, float]:
    """Of each way, in a process of its own: what one frees, another could use again."""
    context = multiprocessing.get_context("spawn")
    found = {}
    for way in ("packed", "plain"):
        sent = context.Queue()
        args = (str(folder), way, num_images, num_answer, sent)
        process = context.Process(target=peak_of, args=args)
        process.start()
        found[way] = sent.get()
        process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the cell of the goal, two rounds")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 2 if options.quick else options.rounds
    ratios: dict[str, list[float]] = {}
    print(
        f"{torch.__version__}, one thread, {NUM_TURNS} turns an image, budget {MAX_TOKENS} tokens"
    )
    print("| model | image tokens | answer | tokens plain/packed | plain/packed | naive/packed |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    cells = [
        (name, num_image, num_answer)
        for name in SIZES
        for num_image in (64, 256, 576)
        for num_answer in (8, 40)
    ]
    if options.quick:
        cells = [("100m", 576, 40)]
    profile: list[str] = []
    for name, num_image, num_answer in cells:
        num_images = max(2, 1152 // num_image) if name == "tiny" else 2
        num_text = TURN_TOKENS + num_answer
        with tempfile.TemporaryDirectory() as temporary:
            folder = checkpoint(Path(temporary), SIZES[name], num_image)
            frozen = Frozen(Scorer(dtype="float32", max_tokens=MAX_TOKENS), str(folder))
            asked = turns(frozen, num_images, num_answer)
            each = ways(frozen)
            took: dict[str, list[float]] = {way: [] for way in each}
            each["packed"](asked)  # warms up
            for _ in range(rounds):
                for way, beliefs in each.items():
                    took[way].append(seconds(lambda: beliefs(asked)))  # noqa: B023
            limit = NUM_TURNS * (num_image + 2 * num_text) / (num_image + 2 * NUM_TURNS * num_text)
            over = {
                way: [slow / fast for slow, fast in zip(took[way], took["packed"], strict=True)]
                for way in ("plain", "naive")
            }
            medians = [statistics.median(over[way]) for way in ("plain", "naive")]
            print(
                f"| {name} | {num_image} | {num_answer} | {limit:.2f} "
                f"| {medians[0]:.2f} | {medians[1]:.2f} |",
                flush=True,
            )
            if (name, num_image, num_answer) == ("100m", 576, 40):
                ratios |= {
                    "packed_over_plain_100m_576": over["plain"],
                    "packed_over_naive_100m_576": over["naive"],
                    "packed_share_of_token_limit_100m_576": [x / limit for x in over["plain"]],
                }
                with timed(frozen) as spent:
                    whole = seconds(lambda: each["packed"](asked))  # noqa: B023
                flops = num_images * least_flops(SIZES[name], num_image, num_text, num_answer)
                share = flops / matmul_flops_per_s() / whole
                memory = peaks(folder, 2 * num_images, num_answer)
                profile = [
                    f"profile of packed, {whole:.2f} s: vision {spent['vision'] / whole:.0%}, "
                    f"language {(spent['hidden'] - spent['vision']) / whole:.0%}, "
                    f"head and scores {spent['head'] / whole:.0%}, "
                    f"rendering and packing {1 - (spent['hidden'] + spent['head']) / whole:.0%}",
                    f"share of the arithmetic limit (a plain float32 matmul of as many FLOPs): "
                    f"{share:.2f}",
                    f"peak memory beyond the model: packed {memory['packed']:.0f} MiB, "
                    f"plain {memory['plain']:.0f} MiB",
                ]
    print("\n".join(["", *profile]))
    for name, values in ratios.items():
        print(f"ratio {name} {statistics.median(values):.3f} {min(values):.3f} {max(values):.3f}")


if __name__ == "__main__":
    main()
