"""C3L over two trainings, with everything on S3."""

from pathlib import Path

import pytest

from c3l_ray.scenes import world
from c3l_ray.storage import Location
from tests.jobs.commands import run_c3l

pytestmark = pytest.mark.timeout(3000)  # many processes, and perhaps two busy cores


def test_a_training_begins_from_the_model_that_another_left_on_s3(s3: str, tmp_path: Path) -> None:
    world.write_scenes(tmp_path, num_scenes=8, scenes_per_shard=8)
    few = ("--rounds", "2", "--turns-per-image", "3", "--training.optim.steps", "2")
    done = run_c3l(tmp_path, f"{s3}/out", *few, "--training.no-verify")
    assert done.returncode == 0, done.stderr + done.stdout
    output = Location.connect(f"{s3}/out")
    report = (output / "run.json").read_json()
    assert report is not None and report["finished"] is not None
    stages = ["round-0", "train-0", "round-1", "train-1", "round-2"]
    assert list(report["stages"]) == [*stages, "dataset"]
    reports = [(output / name / "run.json").read_json() or {} for name in stages]
    generators = [run["identity"]["model"] for run in reports[::2]]
    trainings = [training["model"] for training in reports[1::2]]
    assert [training["initial"] for training in trainings] == generators[:2]
    assert [training["tuned"] for training in trainings] == generators[1:]
    assert len(set(generators)) == 3
    assert {run["identity"]["scorer"] for run in reports[::2]} == {generators[0]}
