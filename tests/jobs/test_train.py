"""The training job as a user starts it: two workers, deaths on the way, and the same end.

What is interrupted is compared with one run that is not.
"""

import contextlib
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import tyro

from c3l_ray.errors import PreflightError
from c3l_ray.inference.model_check import check_model
from c3l_ray.scenes import world
from c3l_ray.storage import Location
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.workflows.train import train_model
from tests.jobs.commands import call_job, make_command, read_report
from tests.jobs.training import TIMEOUT_S, start_job, wait_until
from tests.train.records import write_run

STEPS = 14

pytestmark = pytest.mark.timeout(2 * TIMEOUT_S)  # many processes, and perhaps two busy cores


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records") / "run"
    write_run(folder, num_scenes=20)
    return folder


def train_flags(
    records: Path | str, output: Path | str, *more: str, model: Path | str = world.LLAVA
) -> list[str]:
    return [
        *("--input", str(records), "--output", str(output)),
        *("--model.name", str(model), "--workers.num", "2", "--optim.batch-size", "2"),
        *("--optim.steps", str(STEPS), "--progress.log-every", "1"),
        *("--progress.checkpoint-every", "2", "--progress.held-out", "0.2"),
        *("--workers.readers", "1"),
        *more,
    ]


def read_measurements(output: Path) -> dict[int, dict[str, Any]]:
    """The lines of measurements by their step."""
    return index_lines(json.loads((output / "measurements.json").read_text()))


def index_lines(lines: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    line_of_step = {line["step"]: line for line in lines}
    assert len(line_of_step) == len(lines), "a step was measured twice"
    return line_of_step


def read_checkpoint_names(output: Path) -> set[str]:
    """The names of the checkpoints that a rerun knows of."""
    path = output / "checkpoints" / "checkpoint_manager_snapshot.json"
    try:
        snapshot = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return set()
    return {result["checkpoint_dir_name"] for result in snapshot["checkpoint_results"]}


@pytest.fixture(scope="module")
def finished(records: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An uninterrupted run, verified in vLLM, and what it printed."""
    output = tmp_path_factory.mktemp("finished") / "tuned"
    with start_job(*make_command("train", *train_flags(records, output))) as job:
        printed, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 0, printed
    return output, printed


def test_a_finished_run_says_what_was_trained(finished: tuple[Path, str]) -> None:
    output, printed = finished
    report = read_report(output)
    assert report["steps"] == STEPS and report["held_out_images"] > 0
    assert report["images"] + report["held_out_images"] == 20
    assert report["model"] == {
        "initial": check_model("--model.name", str(world.LLAVA)),
        "tuned": check_model("--model.name", str(output / "model")),
    }
    assert report["model"]["tuned"] != report["model"]["initial"]
    assert report["finished"] and report["verified_reply"].strip()
    assert report["verified_reply"].strip() in printed.replace("\\'", "'")
    lines = read_measurements(output)
    assert sorted(lines) == list(range(1, STEPS + 1))
    for name in ("loss", "contrastive", "nll", "positive_similarity", "negative_similarity"):
        assert all(isinstance(line[name], float) for line in lines.values())
        assert isinstance(lines[STEPS][f"held_out_{name}"], float)
    assert all(line["grad_norm"] > 0 and line["tokens_per_s"] > 0 for line in lines.values())
    assert list((output / "tensorboard").iterdir())
    kept_checkpoints = list((output / "checkpoints").glob("checkpoint_*/.metadata"))
    assert len(kept_checkpoints) == 2  # --progress.keep-checkpoints


def test_a_finished_run_is_not_run_again(finished: tuple[Path, str], records: Path) -> None:
    output, _ = finished
    no_part_of_the_result = (
        *("--optim.micro-batch", "1", "--model.activation-checkpointing", "on"),
        *("--progress.max-held-out", "1", "--alignment.windows", "4"),
    )
    again = call_job("train", *train_flags(records, output, *no_part_of_the_result))
    assert again.returncode == 0 and "nothing is left to do" in again.stderr


def test_deaths_cost_only_the_steps_since_the_last_checkpoint(
    finished: tuple[Path, str], records: Path, tmp_path: Path
) -> None:
    """The driver is stopped, and in the second run of the command a worker is killed."""
    output = tmp_path / "tuned"
    command = make_command("train", *train_flags(records, output, "--no-verify"))
    with start_job(*command) as job:
        wait_until(job, lambda: bool(read_checkpoint_names(output)))
        job.terminate()
        printed, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 143, printed
    last_words = rf"stopped by SIGTERM; (\d+) of {STEPS} steps are saved in {output}; the same"
    said = re.match(last_words, printed.splitlines()[-1])
    assert said and "Traceback" not in printed, printed
    stopped_after = int(said[1])
    assert 2 < stopped_after < STEPS and max(read_measurements(output)) == stopped_after
    before = read_checkpoint_names(output)
    assert before and read_report(output)["finished"] is None
    with start_job(*command) as job:
        wait_until(job, lambda: bool(read_checkpoint_names(output) - before))
        processes = psutil.Process(job.pid).children(recursive=True)
        workers = [process for process in processes if is_training_worker(process)]
        assert len(workers) == 2
        workers[1].kill()
        printed, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 0, printed
    compare_lines(read_measurements(output), read_measurements(finished[0]))
    tuned_models = {read_report(path)["model"]["tuned"] for path in (output, finished[0])}
    assert len(tuned_models) == 1  # bit for bit the same weights


def compare_lines(
    lines: dict[int, dict[str, Any]], uninterrupted_lines: dict[int, dict[str, Any]]
) -> None:
    assert sorted(lines) == sorted(uninterrupted_lines)
    for step, line in uninterrupted_lines.items():
        for name in ("loss", "nll", "grad_norm", "learning_rate"):
            assert lines[step][name] == pytest.approx(line[name], rel=1e-5), (step, name)


def is_training_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "RayTrainWorker" in " ".join(process.cmdline())
    return False


def test_a_killed_training_with_everything_on_s3_ends_as_if_it_had_not_been(
    finished: tuple[Path, str], records: Path, s3: str
) -> None:
    """Two commands: the second resumes from a checkpoint of the first, and exports."""
    location = Location.connect(s3)
    for folder, name in ((records, "records"), (world.LLAVA, "model")):
        location.fs.put(f"{folder}/", f"{location.path}/{name}/", recursive=True)
    flags = train_flags(f"{s3}/records", f"{s3}/tuned", "--no-verify", model=f"{s3}/model")
    command = make_command("train", *flags)
    tuned = location / "tuned"

    def is_saved() -> bool:
        children = (tuned / "checkpoints").list_children()
        return "checkpoint_manager_snapshot.json" in {child.name for child in children}

    with start_job(*command) as job:
        wait_until(job, is_saved)
        os.killpg(job.pid, signal.SIGKILL)
    location.fs.invalidate_cache()
    killed = (tuned / "run.json").read_json()
    assert killed is not None and killed["finished"] is None
    with start_job(*command) as job:
        printed, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 0, printed
    location.fs.invalidate_cache()
    lines = (tuned / "measurements.json").read_json()
    assert lines is not None
    compare_lines(index_lines(lines), read_measurements(finished[0]))
    names = {child.name for child in (tuned / "model").list_children()}
    assert names == {path.name for path in world.LLAVA.iterdir()}

    report = (tuned / "run.json").read_json()
    assert report is not None
    assert report["model"] == read_report(finished[0])["model"]  # bit for bit the same weights
    assert report["model"]["tuned"] == check_model("--model.name", f"{s3}/tuned/model")
    same_model = train_flags(f"{s3}/records", f"{s3}/tuned", "--no-verify")
    found = train_model(tyro.cli(TrainConfig, args=same_model))
    # Wherever the model lies, it is the training that is done.
    assert found.finished == report["finished"] and found.origin == report["origin"]


def test_an_output_of_another_training_is_refused_before_ray_starts(
    records: Path, finished: tuple[Path, str]
) -> None:
    flags = train_flags(records, finished[0], "--labels.margin", "0.5")
    with pytest.raises(PreflightError, match="belongs to origin") as refused:
        train_model(tyro.cli(TrainConfig, args=flags))
    assert "labels.margin: 0.0 there, 0.5 now" in str(refused.value)
    assert not ray.is_initialized()
