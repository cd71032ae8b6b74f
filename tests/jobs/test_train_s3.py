"""The training job with its records, its model and its output on S3."""

import os
import signal
from pathlib import Path

import pytest

from c3l_ray.scenes import world
from c3l_ray.storage import Location
from tests.jobs.commands import make_command, read_report
from tests.jobs.training import TIMEOUT_S, start_job, wait_until
from tests.train.records import write_run

pytestmark = pytest.mark.timeout(2 * TIMEOUT_S)  # many processes, and perhaps two busy cores


def test_with_everything_on_s3(s3: str, tmp_path: Path) -> None:
    """Two commands: the second resumes from the checkpoint of the first, and exports."""
    write_run(f"{s3}/records", num_scenes=6)
    location = Location.connect(s3)
    location.fs.put(f"{world.LLAVA}/", f"{location.path}/model/", recursive=True)

    def make_command_over(model: Path | str, output: Path | str) -> list[str]:
        return make_command(
            "train",
            *("--input", f"{s3}/records", "--output", str(output)),
            *("--model.name", str(model), "--no-verify"),
            *("--optim.batch-size", "2", "--optim.steps", "24", "--progress.checkpoint-every", "4"),
            *("--workers.readers", "1", "--progress.held-out", "0", "--progress.log-every", "4"),
        )

    command = make_command_over(f"{s3}/model", f"{s3}/tuned")
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

    with start_job(*make_command_over(world.LLAVA, tmp_path / "tuned")) as job:
        printed, _ = job.communicate(timeout=TIMEOUT_S)
    assert job.returncode == 0, printed
    local_report, s3_report = read_report(tmp_path / "tuned"), (tuned / "run.json").read_json()
    assert s3_report is not None
    assert s3_report["model"] == local_report["model"]  # bit for bit the same weights
    assert s3_report["identity"] == local_report["identity"]
