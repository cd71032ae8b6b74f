"""The product's workflows as the stages call them, with the flags that a user would give."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from c3l_ray.config import GenerateConfig
from c3l_ray.errors import C3LError
from c3l_ray.scenes.world import CLIP, LLAVA, encode_png, write_shard
from c3l_ray.select_config import SelectConfig
from c3l_ray.train.training_config import TrainConfig
from tests.evidence.worlds import SceneSet

Config = TypeVar("Config")

GENERATION_FLAGS = (
    *("--model.name", str(LLAVA), "--model.dtype", "float32"),
    *("--model.max-len", "256", "--model.max-seqs", "64"),
    *("--sampling.max-tokens", "96", "--scorer.name", str(LLAVA)),
    *("--clip.name", str(CLIP), "--clip.weights", "None"),
)
TRAINING_FLAGS = (
    *("--model.name", str(LLAVA), "--model.max-len", "256"),
    *("--optim.batch-size", "16", "--optim.micro-batch", "16", "--no-verify"),
)
SCENES_PER_SHARD = 50
MAX_ACTORS = 3  # of any stage: one worker and two readers of a training


def parse_flags(config_class: type[Config], flags: Sequence[str]) -> Config:
    """The config that these flags make.

    Raises:
        C3LError: this version has other flags.
    """
    try:
        return tyro.cli(config_class, args=list(flags))
    except SystemExit as error:
        raise C3LError(f"this version does not take the flags {' '.join(flags)}") from error


def draw_shards(folder: Path, scenes: SceneSet) -> Path:
    """Writes shards of the scenes where none are yet, and returns their folder."""
    shards = folder / "scenes"
    unfinished = folder / "scenes.part"
    if shards.exists():
        return shards
    unfinished.mkdir(parents=True, exist_ok=True)
    drawn = list(scenes.draw())
    for first in range(0, len(drawn), SCENES_PER_SHARD):
        members: list[tuple[str, bytes]] = []
        for scene in drawn[first : first + SCENES_PER_SHARD]:
            name = f"{scene.world}-{scene.seed:08d}"
            members.append((f"{name}.json", scene.to_json().encode()))
            members.append((f"{name}.png", encode_png(scene)))
        write_shard(unfinished / f"scenes-{first // SCENES_PER_SHARD:05d}.tar", members)
    unfinished.rename(shards)
    return shards


def generate(folder: Path, scenes: SceneSet, *flags: str) -> Path:
    """Runs jobs.generate on the scenes, and returns the folder of the run.

    Raises:
        C3LError: it cannot go on.
    """
    from c3l_ray.workflows.generate import generate_records

    shards, run = draw_shards(folder, scenes), folder / "run"
    where = ("--input", str(shards), "--output", str(run), "--sampling.seed", str(scenes.seed))
    connect()
    report = generate_records(parse_flags(GenerateConfig, (*where, *GENERATION_FLAGS, *flags)))
    if failed := report.status.get("failed", 0):
        raise C3LError(f"{failed} of {report.images} scenes have no turn: {report.reasons}")
    return run


def train(folder: Path, turns: Path, seed: int, *flags: str) -> tuple[Path, dict[str, Any]]:
    """Runs jobs.train on a run or a dataset, and returns the tuned model and some of its report.

    Raises:
        C3LError: it cannot go on.
    """
    from c3l_ray.workflows.train import train_model

    output = folder / "tuned"
    where = ("--input", str(turns), "--output", str(output), "--optim.seed", str(seed))
    connect()
    report = train_model(parse_flags(TrainConfig, (*where, *TRAINING_FLAGS, *flags)))
    names = ("steps", "images", "left_out_images", "skipped", "seconds", "notes")
    described = {name: getattr(report, name) for name in (*names, "last_measurements")}
    return output / "model", described


def select(folder: Path, run: Path, *flags: str) -> tuple[Path, int]:
    """Runs jobs.select on a run, and returns its llava.json with the number of turns in it.

    Raises:
        C3LError: nothing can be selected.
    """
    from c3l_ray.dataset.select import select_turns

    dataset = folder / "dataset"
    where = ("--input", str(run), "--output", str(dataset))
    report = select_turns(parse_flags(SelectConfig, (*where, "--llava", "images", *flags)))
    return dataset / "llava.json", report.turns


def connect() -> None:
    """Starts the Ray that all stages share."""
    from c3l_ray.distributed import cluster

    cluster.connect(MAX_ACTORS)
