"""C3L from images to a dataset, and what a second command finds done."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from c3l_ray.config import Model, Scorer
from c3l_ray import storage
from c3l_ray.errors import PreflightError
from c3l_ray.scenes import world
from jobs.c3l import C3LConfig, _generation

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.timeout(3000)  # many processes, and perhaps two busy cores


def c3l(images: Path, output: Path | str, *more: str) -> subprocess.CompletedProcess[str]:
    flags = [
        *("--input", str(images), "--output", str(output), "--model.name", str(world.LLAVA)),
        *("--model.dtype", "float32", "--model.max-len", "256", "--sampling.max-tokens", "96"),
        *("--clip.name", str(world.CLIP), "--clip.weights", "None", "--keep", "5"),
        *("--training.optim.batch-size", "4", "--training.progress.log-every", "1"),
    ]
    return subprocess.run(
        [sys.executable, "-m", "jobs.c3l", *flags, *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
    )


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_images_become_a_dataset_and_what_is_done_stays_done(tmp_path: Path) -> None:
    images, output = tmp_path / "in", tmp_path / "out"
    world.write_scenes(images, num_scenes=12, scenes_per_shard=6)
    done = c3l(images, output)
    assert done.returncode == 0, done.stderr + done.stdout
    top = read(output / "run.json")
    assert list(top["stages"]) == ["round-0", "train-0", "round-1", "dataset"]
    assert top["finished"] is not None
    first, second = (read(output / name / "run.json") for name in ("round-0", "round-1"))
    tuned = read(output / "train-0" / "run.json")
    # The model that writes changes with the training, the one that scores never.
    assert first["facts"]["model"] == first["facts"]["scorer"] == second["facts"]["scorer"]
    assert second["facts"]["model"] == tuned["model"]["tuned"] != first["facts"]["model"]
    assert (first["images"], second["images"]) == (12, 12)
    kept = [pq.read_table(path) for path in (output / "dataset").glob("part-*.parquet")]
    assert sum(len(row) for table in kept for row in table["turns"].to_pylist()) == 5
    assert len(read(output / "dataset" / "selection.json")) and "round-1" in done.stdout

    again = c3l(images, output)
    assert again.returncode == 0, again.stderr + again.stdout
    assert again.stdout.count("done already") == 3
    assert read(output / "round-1" / "run.json")["finished"] == second["finished"]

    other = c3l(images, output, "--turns", "4")
    assert other.returncode == 2 and "Traceback" not in other.stderr
    assert "turns" in other.stderr


def test_a_training_begins_from_the_model_that_another_left_on_s3(s3: str, tmp_path: Path) -> None:
    world.write_scenes(tmp_path, num_scenes=8, scenes_per_shard=8)
    few = ("--rounds", "2", "--turns", "3", "--training.optim.steps", "2", "--training.no-verify")
    done = c3l(tmp_path, f"{s3}/out", *few)
    assert done.returncode == 0, done.stderr + done.stdout
    fs, root = storage.connect("--output", f"{s3}/out")
    top = json.loads(fs.cat_file(f"{root}/run.json"))
    stages = ["round-0", "train-0", "round-1", "train-1", "round-2"]
    assert list(top["stages"]) == [*stages, "dataset"] and top["finished"] is not None
    written = [json.loads(fs.cat_file(f"{root}/{name}/run.json")) for name in stages[::2]]
    trained = [json.loads(fs.cat_file(f"{root}/{name}/run.json"))["model"] for name in stages[1::2]]
    thetas = [each["facts"]["model"] for each in written]
    assert [each["trained_from"] for each in trained] == thetas[:2]
    assert [each["tuned"] for each in trained] == thetas[1:]
    assert len(set(thetas)) == 3 and {each["facts"]["scorer"] for each in written} == {thetas[0]}


Make = Callable[..., C3LConfig]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def config(**fields: Any) -> C3LConfig:
        given = {"input": ("in",), "output": str(tmp_path / "out"), "model": Model(name="m")}
        return C3LConfig(**{**given, **fields})

    return config


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"rounds": -1}, "--rounds -1"),
        ({"keep": 0}, "--keep 0"),
        ({"images": False}, "--no-images"),
    ],
)
def test_what_cannot_end_is_refused_before_the_first_stage(
    make: Make, fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(PreflightError, match=named):
        make(**fields)


def test_every_round_is_scored_by_the_model_as_it_came(make: Make) -> None:
    tuned = _generation(make(), "out/train-0/model", "round-1")
    assert (tuned.model.name, tuned.scorer_name) == ("out/train-0/model", "m")
    judged = _generation(make(scorer=Scorer(name="judge")), "out/train-0/model", "round-1")
    assert judged.scorer_name == "judge"
