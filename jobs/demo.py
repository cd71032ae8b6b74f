"""Runs C3L end to end on the models and the world that come with the package.

    python -m jobs.demo

Draws 400 scenes whose truth is known, packs 20 photographs beside them, and
runs jobs.c3l on them: the tiny LLaVA writes five turns for each image and six
more answers to each question, it is tuned on the best answer to each question
whose answers differ, the tuned model writes the turns anew, and the top tenth
of each kind is kept. Both are ranked by grounding. The paper ranks by i2c, and
tunes on the turns of an image.

Then it shows how much of each round is true, with the standard error of the
difference, how varied the questions are, and what various scores would keep.
The tiny model knows coloured shapes only: what it says of a photograph is
hallucination, which the scores should show.

Exit status: 0 finished, 2 refused before the start, 4 more than 5 % of the
images failed, 130 stopped by Ctrl-C, 143 by SIGTERM, 1 any other failure. The
same command begins afresh.
"""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from c3l_ray.errors import PreflightError
from c3l_ray.methods.scores import RankedBy
from c3l_ray.model_config import ClipModel, GeneratorModel, Sampling
from c3l_ray.ranges import Range, check_config
from c3l_ray.scenes.world import CLIP, LLAVA, PHOTOGRAPHS_FOLDER, write_scenes, write_shard
from c3l_ray.train.training_config import Optimization, TrainingOptions
from c3l_ray.train.tuning_config import TuningOptions
from c3l_ray.workflows.c3l import run_c3l
from c3l_ray.workflows.c3l_config import C3LConfig
from jobs.command_line import AFRESH, main

if TYPE_CHECKING:
    from c3l_ray.runs.report import RecordsReport
    from c3l_ray.workflows.training_report import TrainingReport

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
BUNDLED = ("china.jpg", "flower.jpg")
PHOTOGRAPHS = "photographs.tar"
SCENES_PER_SHARD = 50
BY: RankedBy = "grounding"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What the demo draws, and where it ends."""

    output: Path = Path("runs/demo")
    """Folder for everything; an earlier demo there is deleted."""
    num_scenes: Annotated[int, Range(min=1)] = 400
    """Scenes to draw, 50 to a shard."""
    seed: int = 0
    """Seed of the first scene; each next scene has the next seed."""

    def __post_init__(self) -> None:
        check_config(self)


def run(config: DemoConfig) -> None:
    """Runs the demo and prints what it did.

    Raises:
        PreflightError: the output holds something else.
    """
    from c3l_ray.evaluation.judgement import judge_run
    from c3l_ray.evaluation.rounds import compare_rounds
    from c3l_ray.evaluation.score_tables import format_extremes, format_medians
    from c3l_ray.runs.folder import RunFolder
    from c3l_ray.workflows.report import describe_report
    from c3l_ray.workflows.summaries import summarize_c3l, summarize_stage

    def print_stage(name: str, report: "RecordsReport | TrainingReport") -> None:
        print(summarize_stage(report, f"{config.output}/{name}"), flush=True)

    started = time.monotonic()
    draw_input(config)
    print(summarize_c3l(run_c3l(make_c3l_config(config), print_stage), str(config.output)))

    rounds = [f"{config.output}/{name}" for name in ("round-0", "round-1")]
    turns = judge_run(RunFolder.open(rounds[-1]))
    print(
        f"\ndone in {time.monotonic() - started:.0f} s\n",
        compare_rounds(rounds),
        "",
        format_medians(turns, "round-1"),
        "",
        format_extremes(turns, BY),
        "",
        f"  rounds   {config.output}/round-*/records",
        f"  model    {config.output}/train-0/model",
        f"  dataset  {config.output}/dataset/data/part-*.parquet",
        f"  report   {config.output}/run.json",
        describe_report([str(config.output)]),
        sep="\n",
    )


def draw_input(config: DemoConfig) -> None:
    """Draws the scenes and packs the photographs, in place of an earlier demo.

    Raises:
        PreflightError: the output holds something else.
    """
    images = config.output / "input"
    if config.output.exists() and not (images / PHOTOGRAPHS).is_file():
        raise PreflightError(
            f"--output {config.output}: holds something other than an earlier demo"
        )
    shutil.rmtree(config.output, ignore_errors=True)
    print(f"drawing {config.num_scenes} scenes and packing the photographs into {images}")
    write_scenes(
        images,
        num_scenes=config.num_scenes,
        scenes_per_shard=SCENES_PER_SHARD,
        seed=config.seed,
    )
    write_shard(images / PHOTOGRAPHS, read_photographs())


def read_photographs() -> Iterator[tuple[str, bytes]]:
    """(name, content) of the pictures in scikit-image and in our folder, of many sizes."""
    folders = ((resources.files("skimage.data"), SKIMAGE), (PHOTOGRAPHS_FOLDER, BUNDLED))
    for folder, names in folders:
        for name in names:
            yield name, (folder / name).read_bytes()


def make_c3l_config(config: DemoConfig) -> C3LConfig:
    return C3LConfig(
        input=(str(config.output / "input"),),
        output=str(config.output),
        model=GeneratorModel(name=str(LLAVA), dtype="float32", max_len=256, max_seqs=64),
        sampling=Sampling(max_tokens=96),
        clip=ClipModel(name=str(CLIP), weights=None),
        top=0.1,
        by=BY,
        within="kind",
        objective="answers",
        answers=6,
        tuning=TuningOptions(max_len=256),
        training=TrainingOptions(
            optim=Optimization(batch_size=16, micro_batch=16, epochs=3, learning_rate=1e-3),
        ),
    )


def run_command(program: str = "python -m jobs.demo") -> None:
    main(DemoConfig, run, __doc__, program, again=AFRESH)


if __name__ == "__main__":
    run_command()
