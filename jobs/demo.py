"""The main job end to end on the embedded default: `make demo`.

Draws 400 scenes whose truth is known and packs 20 photographs, has the tiny LLaVA write five turns
for each image, scores them, selects the top tenth by I2C, and shows how much of it is true, beside
the top tenths by other scores, of all turns and of each kind. The tiny model knows coloured shapes
only: what it says of a photograph is hallucination, which the scores should show.
"""

import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa

from c3l_ray.config import (
    Clip,
    GenerateConfig,
    Model,
    RankedBy,
    Sampling,
    SelectConfig,
    Within,
)
from c3l_ray.data.commit import Output
from c3l_ray.data.select import choose, parts, select
from c3l_ray.errors import Refused
from c3l_ray.evaluation.scenes import Judged, judged, truthful_share, truths
from c3l_ray.scenes import world
from c3l_ray.schema import SCORE_NAMES
from jobs._main import main
from jobs.generate import generate

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
RANKINGS: tuple[RankedBy, ...] = (
    *("i2c", "i2c_vocab", "gain", "visual_ifd"),
    *("image_logprob", "clip", "random"),
)
WITHIN: tuple[Within, ...] = ("dataset", "kind")


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What the demo draws, and where it ends."""

    output: Path = Path("runs/demo")
    """Folder for everything; made afresh."""
    num_scenes: int = 400
    """Scenes to draw, 50 to a shard."""


def demo(config: DemoConfig) -> None:
    started = time.monotonic()
    images = config.output / "input"
    if config.output.exists() and not (images / PHOTOGRAPHS).is_file():
        raise Refused(f"--output {config.output}: holds something other than an earlier demo")
    shutil.rmtree(config.output, ignore_errors=True)
    print(f"drawing {config.num_scenes} scenes and packing the photographs into {images}")
    world.write_scenes(images, num_scenes=config.num_scenes, scenes_per_shard=50)
    world.write_shard(images / PHOTOGRAPHS, photographs())

    generate(
        GenerateConfig(
            input=(str(images),),
            output=str(config.output),
            model=Model(name=str(world.LLAVA), dtype="float32", max_len=256, max_seqs=64),
            sampling=Sampling(max_tokens=96),
            clip=Clip(name=str(world.CLIP), weights=None),
        )
    )
    select(SelectConfig(input=str(config.output)))

    everything = list(judged(records(config.output)))
    print(f"\ndone in {time.monotonic() - started:.0f} s")
    print_selections(everything, config.output)
    print_scores(everything)
    print_extremes(everything)
    print(
        f"\n  records  {config.output}/records\n"
        f"  dataset  {config.output}/dataset/part-*.parquet\n"
        f"  LLaVA    {config.output}/dataset/llava.json\n"
        f"  report   {config.output}/run.json"
    )


def photographs() -> Iterator[tuple[str, bytes]]:
    """(name, content) of the pictures that scikit-image and scikit-learn carry, of many sizes."""
    for package, names in (("skimage.data", SKIMAGE), ("sklearn.datasets.images", SKLEARN)):
        for name in names:
            yield name, (resources.files(package) / name).read_bytes()


def records(output: Path) -> Iterator[pa.Table]:
    run = Output(str(output))
    return (run.records(manifest) for manifest in run.manifests() if manifest.file)


def print_selections(everything: list[Judged], output: Path) -> None:
    counts, share = truths(everything), _percent(truthful_share(everything))
    print(
        f"\nof {counts.total()} turns about scenes {share} are true, {counts['unknown']} unknown;"
    )
    print(f"{len(everything) - counts.total()} turns are about photographs\n")
    columns = ("of all turns", "of each kind", "photographs")
    print(f"{'true of the top 10 %':<24}" + "".join(f"{name:>16}" for name in columns))
    source = Output(str(output))
    manifests = {manifest.unit: manifest for manifest in source.manifests() if manifest.file}
    for by in RANKINGS:
        cells, of_photographs = "", []
        for within in WITHIN:
            config = SelectConfig(input=str(output), by=by, within=within)
            choice, _, _ = choose(source, manifests, config)
            chosen = list(judged(parts(source, manifests, choice)))
            cells += f"{_percent(truthful_share(chosen)):>16}"
            of_photographs.append(sum(turn.truth is None for turn in chosen))
        print(f"by {by:<21}{cells}{' and '.join(map(str, of_photographs)):>16}")


def print_scores(everything: list[Judged]) -> None:
    groups = {"scenes, true": "true", "scenes, false": "false", "photographs": None}
    print(f"\n{'median score':<24}" + "".join(f"{name:>16}" for name in groups))
    for score in SCORE_NAMES:
        cells = ""
        for truth in groups.values():
            values = [_score(turn, score) for turn in everything if turn.truth == truth]
            cells += f"{statistics.median(values):>16.3f}" if values else f"{'-':>16}"
        print(f"{score:<24}{cells}")


def print_extremes(everything: list[Judged]) -> None:
    ranked = sorted(everything, key=lambda turn: -_score(turn, "i2c"))
    for name, turns in (("best", ranked[:3]), ("worst", ranked[-3:])):
        print(f"\nthree {name} turns by i2c")
        for each in turns:
            scores = f"i2c {_score(each, 'i2c'):.3f}, gain {_score(each, 'gain'):+.3f}"
            print(f"  {each.image} ({each.turn['kind']}, {each.truth or 'photograph'}, {scores})")
            print(f"    Q {each.turn['question']}\n    A {each.turn['answer']}")


def _score(judged_turn: Judged, name: str) -> float:
    scores: dict[str, Any] = judged_turn.turn["scores"]
    return float(scores[name])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


if __name__ == "__main__":
    main(DemoConfig, demo, __doc__ or "")
