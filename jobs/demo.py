"""C3L end to end on the embedded default: `make demo`.

Draws 400 scenes whose truth is known and packs 20 photographs, and gives them to jobs.c3l: the tiny
LLaVA writes five turns for each image, it is tuned on the best and the others of each, the tuned
one writes the turns anew, and the top tenth of each kind is kept. Best is what has the lowest
visual_ifd, the score that knows best what is true here; the paper's is i2c. Then it shows how much
of each round is true, how varied its questions are, and what of it various scores would keep. The
tiny model knows coloured shapes only: what it says of a photograph is hallucination, which the
scores should show.
"""

import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from c3l_ray.config import Clip, Model, RankedBy, Sampling
from c3l_ray.runs.folder import Output
from c3l_ray.errors import PreflightError
from c3l_ray.evaluation import rounds
from c3l_ray.evaluation.judgement import Judged, judged
from c3l_ray.scenes import world
from c3l_ray.schema import SCORE_NAMES
from c3l_ray.train.training_config import Optimization, Training, Tuning
from jobs.command_line import main
from jobs.c3l import C3LConfig, c3l

SKIMAGE = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "microaneurysms.png",
    "moon.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)
PHOTOGRAPHS = "photographs.tar"
SKLEARN = ("china.jpg", "flower.jpg")
BY: RankedBy = "visual_ifd"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What the demo draws, and where it ends."""

    output: Path = Path("runs/demo")
    """Folder for everything; made afresh."""
    num_scenes: int = 400
    """Scenes to draw, 50 to a shard."""
    seed: int = 0
    """Of the first scene; the others follow it."""


def demo(config: DemoConfig) -> None:
    started = time.monotonic()
    images = config.output / "input"
    if config.output.exists() and not (images / PHOTOGRAPHS).is_file():
        raise PreflightError(f"--output {config.output}: holds something other than an earlier demo")
    shutil.rmtree(config.output, ignore_errors=True)
    print(f"drawing {config.num_scenes} scenes and packing the photographs into {images}")
    world.write_scenes(images, num_scenes=config.num_scenes, scenes_per_shard=50, seed=config.seed)
    world.write_shard(images / PHOTOGRAPHS, photographs())

    c3l(
        C3LConfig(
            input=(str(images),),
            output=str(config.output),
            model=Model(name=str(world.LLAVA), dtype="float32", max_len=256, max_seqs=64),
            sampling=Sampling(max_tokens=96),
            clip=Clip(name=str(world.CLIP), weights=None),
            keep=0.1,
            by=BY,
            within="kind",
            tuning=Tuning(max_len=256),
            training=Training(
                positive_by=BY,
                within="kind",
                optim=Optimization(batch_size=16, micro_batch=16),
            ),
        )
    )

    paths = [str(config.output / name) for name in ("round-0", "round-1")]
    everything = list(judged(rounds.records(Output(paths[-1]))))
    print(f"\ndone in {time.monotonic() - started:.0f} s\n")
    print(rounds.table(paths))
    print_scores(everything)
    print_extremes(everything)
    print(
        f"\n  rounds   {config.output}/round-*/records\n"
        f"  model    {config.output}/train-0/model\n"
        f"  dataset  {config.output}/dataset/part-*.parquet\n"
        f"  LLaVA    {config.output}/dataset/llava.json\n"
        f"  report   {config.output}/run.json"
    )


def photographs() -> Iterator[tuple[str, bytes]]:
    """(name, content) of the pictures that scikit-image and scikit-learn carry, of many sizes."""
    for package, names in (("skimage.data", SKIMAGE), ("sklearn.datasets.images", SKLEARN)):
        for name in names:
            yield name, (resources.files(package) / name).read_bytes()


def print_scores(everything: list[Judged]) -> None:
    groups = {"scenes, true": "true", "scenes, false": "false", "photographs": None}
    print(f"\n{'median of round-1':<24}" + "".join(f"{name:>16}" for name in groups))
    for score in SCORE_NAMES:
        cells = ""
        for truth in groups.values():
            values = [_score(turn, score) for turn in everything if turn.truth == truth]
            cells += f"{statistics.median(values):>16.3f}" if values else f"{'-':>16}"
        print(f"{score:<24}{cells}")


def print_extremes(everything: list[Judged]) -> None:
    ranked = sorted(everything, key=lambda turn: _score(turn, BY))
    for name, turns in (("best", ranked[:3]), ("worst", ranked[-3:])):
        print(f"\nthree {name} turns by {BY}")
        for each in turns:
            scores = f"{BY} {_score(each, BY):.3f}, i2c {_score(each, 'i2c'):.3f}"
            print(f"  {each.image} ({each.turn['kind']}, {each.truth or 'photograph'}, {scores})")
            print(f"    Q {each.turn['question']}\n    A {each.turn['answer']}")


def _score(judged_turn: Judged, name: str) -> float:
    scores: dict[str, Any] = judged_turn.turn["scores"]
    return float(scores[name])


if __name__ == "__main__":
    main(DemoConfig, demo, __doc__ or "")
