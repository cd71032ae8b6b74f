"""The training job as a user starts it: two workers, deaths on the way, and the same end."""

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
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.workflows.train import train_model
from tests.jobs.commands import make_command, read_report
from tests.jobs.training import TIMEOUT_S, start_job, wait_until
from tests.train.records import write_run

STEPS = 14

pytestmark = pytest.mark.timeout(2 * TIMEOUT_S)  # many processes, and perhaps two busy cores


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records") / "run"
    write_run(folder, num_scenes=20)
    return folder


def make_train_command(records: Path, output: Path, *more: str) -> list[str]:
    return make_command(
        "train",
        *("--input", str(records), "--output", str(output)),
        *("--model.name", str(world.LLAVA), "--workers.num", "2", "--optim.batch-size", "2"),
        *("--optim.steps", str(STEPS), "--progress.log-every", "1"),
        *("--progress.checkpoint-every", "2", "--progress.held-out", "0.2"),
        *("--workers.readers", "1"),
        *more,
    )


def read_measurements(output: Path) -> dict[int, dict[str, Any]]:
    """The lines of measurements by their step."""
    lines = json.loads((output / "measurements.json").read_text())
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
    with start_job(*make_train_command(records, output)) as job:
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
    with start_job(*make_train_command(records, output, *no_part_of_the_result)) as job:
        printed, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 0 and "nothing is left to do" in printed


def test_deaths_cost_only_the_steps_since_the_last_checkpoint(
    finished: tuple[Path, str], records: Path, tmp_path: Path
) -> None:
    """The driver is stopped, then it is killed, and in the third run of the command a worker."""
    output = tmp_path / "tuned"
    command = make_train_command(records, output, "--no-verify")
    with start_job(*command) as job:
        wait_until(job, lambda: bool(read_checkpoint_names(output)))
        job.terminate()
        printed, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 143, printed
    last_words = rf"stopped by SIGTERM; (\d+) of {STEPS} steps are saved in {output}; run the same"
    said = re.match(last_words, printed.splitlines()[-1])
    assert said and "Traceback" not in printed, printed
    stopped_after = int(said[1])
    assert 2 < stopped_after < STEPS and max(read_measurements(output)) == stopped_after
    before = read_checkpoint_names(output)
    with start_job(*command) as job:
        wait_until(job, lambda: bool(read_checkpoint_names(output) - before))
        os.killpg(job.pid, signal.SIGKILL)
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
    lines, uninterrupted_lines = read_measurements(output), read_measurements(finished[0])
    assert sorted(lines) == sorted(uninterrupted_lines)
    for step, line in uninterrupted_lines.items():
        for name in ("loss", "nll", "grad_norm", "learning_rate"):
            assert lines[step][name] == pytest.approx(line[name], rel=1e-5), (step, name)
    tuned_models = {read_report(path)["model"]["tuned"] for path in (output, finished[0])}
    assert len(tuned_models) == 1  # bit for bit the same weights


def is_training_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "RayTrainWorker" in " ".join(process.cmdline())
    return False


def test_an_output_of_another_training_is_refused(
    records: Path, finished: tuple[Path, str]
) -> None:
    flags = make_train_command(records, finished[0], "--labels.margin", "0.5")[3:]
    with pytest.raises(PreflightError, match="belongs to origin") as refused:
        train_model(tyro.cli(TrainConfig, args=flags))
    assert not ray.is_initialized()  # nothing was started for it
    assert "labels.margin: 0.0 there, 0.5 now" in str(refused.value)
