"""The training job with its records, its model and its output on S3."""

import os
import signal

import pytest
import tyro

from c3l_ray.inference.model_check import check_model
from c3l_ray.scenes import world
from c3l_ray.storage import Location
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.workflows.train import train_model
from tests.jobs.commands import make_command
from tests.jobs.training import TIMEOUT_S, start_job, wait_until
from tests.train.records import write_run

pytestmark = pytest.mark.timeout(2 * TIMEOUT_S)  # many processes, and perhaps two busy cores


def test_with_everything_on_s3(s3: str) -> None:
    """Two commands: the second resumes from the checkpoint of the first, and exports."""
    write_run(f"{s3}/records", num_scenes=6)
    location = Location.connect(s3)
    location.fs.put(f"{world.LLAVA}/", f"{location.path}/model/", recursive=True)

    flags = (
        *("--input", f"{s3}/records", "--output", f"{s3}/tuned", "--no-verify"),
        *("--optim.batch-size", "2", "--optim.steps", "24", "--progress.checkpoint-every", "4"),
        *("--workers.readers", "1", "--progress.held-out", "0", "--progress.log-every", "4"),
    )
    command = make_command("train", *flags, "--model.name", f"{s3}/model")
    tuned = location / "tuned"

    def is_saved() -> bool:
        children = (tuned / "checkpoints").list_children()
        return "checkpoint_manager_snapshot.json" in {child.name for child in children}

    with start_job(*command) as job:
        wait_until(job, is_saved)
        os.killpg(job.pid, signal.SIGKILL)
    with start_job(*command) as job:
        printed, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 0, printed
    location.fs.invalidate_cache()
    lines = (tuned / "measurements.json").read_json()
    assert lines is not None and [line["step"] for line in lines] == list(range(4, 25, 4))
    names = {child.name for child in (tuned / "model").list_children()}
    assert names == {path.name for path in world.LLAVA.iterdir()}

    report = (tuned / "run.json").read_json()
    assert report is not None
    assert report["model"] == {
        "initial": check_model("--model.name", str(world.LLAVA)),
        "tuned": check_model("--model.name", f"{s3}/tuned/model"),
    }
    same_model = tyro.cli(TrainConfig, args=[*flags, "--model.name", str(world.LLAVA)])
    found = train_model(same_model)  # wherever the model lies, it is the training that is done
    assert found.finished == report["finished"] and found.origin == report["origin"]
