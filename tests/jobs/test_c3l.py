"""C3L from images to a dataset, and what a second command finds done."""

import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from c3l_ray.scenes import world
from c3l_ray.storage import Location
from tests.jobs.commands import check_refusal, generate_flags, read_report, run_job

pytestmark = pytest.mark.timeout(3000)  # many processes, and perhaps two busy cores


def run_c3l(images: Path, output: Path | str, *more: str) -> subprocess.CompletedProcess[str]:
    flags = (
        *("--clip.weights", "None", "--top", "5"),
        *("--training.optim.batch-size", "4", "--training.progress.log-every", "1"),
    )
    return run_job("c3l", *generate_flags(images, output, *flags, *more), timeout_s=1400)


def test_images_become_a_dataset_and_what_is_done_stays_done(tmp_path: Path) -> None:
    images, output = tmp_path / "in", tmp_path / "out"
    world.write_scenes(images, num_scenes=12, scenes_per_shard=6)
    done = run_c3l(images, output)
    assert done.returncode == 0, done.stderr + done.stdout
    report = read_report(output)
    assert list(report["stages"]) == ["round-0", "train-0", "round-1", "dataset"]
    assert report["finished"] is not None
    first, second = (read_report(output / name) for name in ("round-0", "round-1"))
    tuned = read_report(output / "train-0")["model"]["tuned"]
    # The model that writes changes with the training, the one that scores never.
    initial = first["identity"]["model"]
    assert initial == first["identity"]["scorer"] == second["identity"]["scorer"]
    assert second["identity"]["model"] == tuned != initial
    assert (first["images"], second["images"]) == (12, 12)
    tables = [pq.read_table(path) for path in (output / "dataset").glob("part-*.parquet")]
    assert sum(len(turns) for table in tables for turns in table["turns"].to_pylist()) == 5
    assert (output / "dataset" / "selection.json").is_file() and "round-1" in done.stdout

    again = run_c3l(images, output)
    assert again.returncode == 0, again.stderr + again.stdout
    assert again.stderr.count(" is done") == 3
    assert read_report(output / "round-1")["finished"] == second["finished"]

    refused = run_c3l(images, output, "--turns-per-image", "4")
    check_refusal(refused, "turns_per_image")


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
