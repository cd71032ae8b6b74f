"""The training job as a user starts it: two workers, deaths on the way, and the same end."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from c3l_ray import storage
from c3l_ray.runs.folder import Output
from c3l_ray.errors import PreflightError
from c3l_ray.inference.model_check import check_vlm
from c3l_ray.scenes import world
from c3l_ray.train.training_config import Optimization, Progress, TrainConfig, Tuned
from jobs.train import train
from tests.train.records import write_run

ROOT = Path(__file__).parent.parent.parent
STEPS = 10
TIMEOUT_S = 1500

pytestmark = pytest.mark.timeout(2 * TIMEOUT_S)  # many processes, and perhaps two busy cores


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records") / "run"
    write_run(folder, num_scenes=20)
    return folder


def command(records: Path, output: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "jobs.train", "--input", str(records), "--output", str(output)),
        *("--model.name", str(world.LLAVA), "--workers.num", "2", "--optim.batch-size", "2"),
        *("--optim.steps", str(STEPS), "--progress.log-every", "1"),
        *("--progress.checkpoint-every", "2", "--progress.held-out", "0.2"),
        *("--workers.readers", "1"),
        *more,
    ]


@contextlib.contextmanager
def started(*flags: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        flags,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Ray Train takes a worker's report every so many seconds; here steps are short.
        env={**os.environ, "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"},
    ) as job:
        try:
            yield job
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)


def measured(output: Path) -> dict[int, dict[str, Any]]:
    lines = json.loads((output / "measurements.json").read_text())
    found: dict[int, dict[str, Any]] = {}
    for line in lines:
        assert line["step"] not in found, "a step was measured twice"
        found[line["step"]] = line
    return found


def checkpoints(output: Path) -> set[str]:
    """The names of the checkpoints that a rerun knows of."""
    snapshot = output / "checkpoints" / "checkpoint_manager_snapshot.json"
    try:
        found = json.loads(snapshot.read_text())
    except (FileNotFoundError, ValueError):
        return set()
    return {each["checkpoint_dir_name"] for each in found["checkpoint_results"]}


@pytest.fixture(scope="module")
def finished(records: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An uninterrupted run, verified in vLLM, and what it printed."""
    output = tmp_path_factory.mktemp("finished") / "tuned"
    with started(*command(records, output)) as job:
        printed, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 0, printed
    return output, printed


def test_a_finished_run_says_what_was_trained(finished: tuple[Path, str]) -> None:
    output, printed = finished
    run = json.loads((output / "run.json").read_text())
    assert run["steps"] == STEPS and run["images"] + run["held_out"] == 20 and run["held_out"] > 0
    assert run["model"] == {
        "trained_from": check_vlm("--model.name", str(world.LLAVA)),
        "tuned": check_vlm("--model.name", str(output / "model")),
    }
    assert run["model"]["tuned"] != run["model"]["trained_from"]
    assert run["finished"] and run["verified_reply"].strip()
    assert run["verified_reply"].strip() in printed.replace("\\'", "'")
    lines = measured(output)
    assert sorted(lines) == list(range(1, STEPS + 1))
    for name in ("loss", "contrastive", "nll", "positive_similarity", "negative_similarity"):
        assert all(isinstance(line[name], float) for line in lines.values())
        assert isinstance(lines[STEPS][f"held_out_{name}"], float)
    assert all(line["grad_norm"] > 0 and line["tokens_per_s"] > 0 for line in lines.values())
    assert list((output / "tensorboard").iterdir())
    assert (
        len(list((output / "checkpoints").glob("checkpoint_*/.metadata"))) == 2
    )  # --progress.keep


def test_a_finished_run_is_not_run_again(finished: tuple[Path, str], records: Path) -> None:
    output, _ = finished
    with started(*command(records, output)) as job:
        printed, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 0 and "nothing is left to do" in printed


def test_deaths_cost_only_the_steps_since_the_last_checkpoint(
    finished: tuple[Path, str], records: Path, tmp_path: Path
) -> None:
    """The driver is killed, and in the second run of the same command a worker."""
    output = tmp_path / "tuned"
    flags = command(records, output, "--no-verify")
    with started(*flags) as job:
        _wait(job, lambda: bool(checkpoints(output)))
        os.killpg(job.pid, signal.SIGKILL)
    before = checkpoints(output)
    assert before and json.loads((output / "run.json").read_text())["finished"] is None
    with started(*flags) as job:
        _wait(job, lambda: bool(checkpoints(output) - before))
        workers = [
            each for each in psutil.Process(job.pid).children(recursive=True) if _trains(each)
        ]
        assert len(workers) == 2
        workers[1].kill()
        printed, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 0, printed
    ours, theirs = measured(output), measured(finished[0])
    assert sorted(ours) == sorted(theirs)
    for step, line in theirs.items():
        for name in ("loss", "nll", "grad_norm", "learning_rate"):
            assert ours[step][name] == pytest.approx(line[name], rel=1e-5), (step, name)
    ends = (json.loads((path / "run.json").read_text()) for path in (output, finished[0]))
    assert len({end["model"]["tuned"] for end in ends}) == 1  # bit for bit the same weights


def test_with_everything_on_s3(s3: str, tmp_path: Path) -> None:
    """Two commands: the second goes on from the checkpoint of the first, and exports."""
    write_run(f"{s3}/records", num_scenes=6)
    fs, root = storage.connect("--output", s3)
    fs.put(f"{world.LLAVA}/", f"{root}/model/", recursive=True)

    def flags_of(model: Path | str, output: Path | str) -> list[str]:
        return [
            *(sys.executable, "-m", "jobs.train", "--input", f"{s3}/records"),
            *("--output", str(output), "--model.name", str(model), "--no-verify"),
            *("--optim.batch-size", "2", "--optim.steps", "40", "--progress.checkpoint-every", "4"),
            *("--workers.readers", "1", "--progress.held-out", "0", "--progress.log-every", "4"),
        ]

    flags = flags_of(f"{s3}/model", f"{s3}/tuned")
    snapshot = f"{root}/tuned/checkpoints/checkpoint_manager_snapshot.json"

    def saved() -> bool:
        fs.invalidate_cache()
        return bool(fs.exists(snapshot))

    with started(*flags) as job:
        _wait(job, saved)
        os.killpg(job.pid, signal.SIGKILL)
    with started(*flags) as job:
        printed, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 0, printed
    fs.invalidate_cache()
    lines = json.loads(fs.cat_file(f"{root}/tuned/measurements.json"))
    assert [line["step"] for line in lines] == list(range(4, 41, 4))
    names = {path.rpartition("/")[2] for path in fs.ls(f"{root}/tuned/model", detail=False)}
    assert names == {path.name for path in world.LLAVA.iterdir()}

    with started(*flags_of(world.LLAVA, tmp_path / "tuned")) as job:
        printed, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 0, printed
    from_local = json.loads((tmp_path / "tuned" / "run.json").read_text())
    from_s3 = json.loads(fs.cat_file(f"{root}/tuned/run.json"))
    assert from_s3["model"] == from_local["model"]  # identities: bit for bit the same weights
    assert from_s3["facts"] == from_local["facts"]


def _wait(job: subprocess.Popen[str], until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not until():
        assert job.poll() is None, job.stdout and job.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _trains(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "RayTrainWorker" in " ".join(process.cmdline())
    return False


def config(records: Path, output: Path, **changed: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "input": (str(records),),
        "output": str(output),
        "model": Tuned(name=str(world.LLAVA)),
        "optim": Optimization(batch_size=2),
    }
    return TrainConfig(**{**fields, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input": ("/nowhere",)}, "--input /nowhere: not the output of a run"),
        ({"model": Tuned(name="/nowhere")}, "--model.name /nowhere: no such folder"),
        ({"optim": Optimization(batch_size=21)}, "20 images to learn from, fewer than --optim.ba"),
        ({"margin": 2.0, "signed_guard": False}, "0 images to learn from"),
        ({"progress": Progress(held_out=0.99)}, "images to learn from"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_start(
    records: Path, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    fields = {"progress": Progress(held_out=0.0), **changed}
    with pytest.raises(PreflightError, match=message):
        train(config(records, tmp_path / "tuned", **fields))


def test_help_teaches() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "jobs.train", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert shown.returncode == 0 and "python -m jobs.train --input" in shown.stdout
    assert "--positive-by" in shown.stdout and "(default: i2c)" in shown.stdout


def test_records_without_images_are_refused(tmp_path: Path) -> None:
    Output(str(tmp_path / "run")).claim("test", {"images": False})
    with pytest.raises(PreflightError, match="its records hold no images"):
        train(config(tmp_path / "run", tmp_path / "tuned"))


def test_an_output_of_another_training_is_refused(
    records: Path, finished: tuple[Path, str]
) -> None:
    with pytest.raises(PreflightError, match="belongs to origin"):
        train(config(records, finished[0], margin=0.5))
