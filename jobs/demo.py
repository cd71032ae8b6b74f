"""The main job end to end on the embedded default: `make demo`.

Draws 400 scenes whose truth is known and packs 20 photographs, has the tiny LLaVA write five turns
for each image, scores them, selects the top tenth by I2C and by three controls, and shows how much
of each is true. The tiny model knows coloured shapes only: what it says of a photograph is
hallucination, which the scores should show.
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
import pyarrow.parquet as pq

from c3l_ray.config import Clip, GenerateConfig, Model, RankedBy, Sampling, SelectConfig
from c3l_ray.data.commit import Output
from c3l_ray.data.select import select
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
CONTROLS: tuple[RankedBy, ...] = ("random", "clip", "image_logprob")


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
    selections: dict[RankedBy, Path] = {"i2c": config.output / "dataset"}
    for by in CONTROLS:
        selections[by] = config.output / "controls" / by
    for by, folder in selections.items():
        select(SelectConfig(input=str(config.output), output=str(folder), by=by))

    everything = list(judged(records(config.output)))
    print(f"\ndone in {time.monotonic() - started:.0f} s")
    print_selections(everything, selections)
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


def print_selections(everything: list[Judged], selections: dict[RankedBy, Path]) -> None:
    columns = f"{'turns':>7}{'true':>9}{'false':>7}{'unknown':>9}{'of photographs':>16}"
    print(f"\n{'selection':<24}{columns}")
    rows = {"all turns": everything} | {
        f"top 10 % by {by}": list(judged(map(pq.read_table, sorted(folder.glob("*.parquet")))))
        for by, folder in selections.items()
    }
    for name, turns in rows.items():
        counts = truths(turns)
        share = truthful_share(turns)
        of_photographs = sum(turn.truth is None for turn in turns)
        print(
            f"{name:<24}{len(turns):>7}{_percent(share):>9}{counts['false']:>7}"
            f"{counts['unknown']:>9}{of_photographs:>16}"
        )


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
