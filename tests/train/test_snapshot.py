"""Ray Train's list of checkpoints, broken as by a kill or a clean-up, and read by Ray Train."""

import asyncio
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from ray.train import Checkpoint, CheckpointConfig
from ray.train.v2._internal.exceptions import CheckpointManagerInitializationError
from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import CheckpointManager
from ray.train.v2._internal.execution.storage import StorageContext
from ray.train.v2._internal.execution.training_report import _TrainingReport
from torch.distributed.checkpoint.state_dict_saver import save

from c3l_ray.storage import Location
from c3l_ray.train.snapshot import POSITION, SNAPSHOT, find_whole, mend_snapshot


def open_manager(folder: Path) -> CheckpointManager:
    """What Ray Train opens at the begin of a run, which reads the list."""
    storage = StorageContext(storage_path=str(folder.parent), experiment_dir_name=folder.name)
    return CheckpointManager(CheckpointConfig(num_to_keep=2), storage)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Checkpoints of the steps 2 and 4, which Ray Train has listed."""
    folder = tmp_path / "run" / "checkpoints"
    manager = open_manager(folder)

    async def register() -> None:
        for step in (2, 4):
            checkpoint = folder / f"checkpoint_2030-01-01_00-00-0{step}"
            save({"weights": torch.full((100,), float(step))}, checkpoint_id=checkpoint)
            (checkpoint / POSITION).write_text(json.dumps({"step": step, "measurements": []}))
            report = _TrainingReport(
                metrics={"step": step},
                checkpoint=Checkpoint(str(checkpoint), manager._storage_context.storage_filesystem),
                validation=False,
            )
            manager.register_checkpoint(report)

    asyncio.run(register())
    assert read_steps(folder) == [2, 4]
    return folder


def read_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints that Ray Train finds, the latest last."""
    manager = open_manager(folder)
    steps = [result.metrics["step"] for result in manager._checkpoint_results]
    latest = manager.latest_checkpoint_result
    assert (latest.metrics["step"] if latest else None) == (steps[-1] if steps else None)
    return steps


def mend(folder: Path, caplog: pytest.LogCaptureFixture) -> list[int]:
    """The steps that Ray Train finds once a list is mended that it refused."""
    with pytest.raises(CheckpointManagerInitializationError):
        read_steps(folder)
    with caplog.at_level(logging.WARNING):
        mend_snapshot(str(folder))
    return read_steps(folder)


def find(folder: Path, step: int) -> Path:
    return folder / f"checkpoint_2030-01-01_00-00-0{step}"


@pytest.mark.parametrize("content", [b"", b'{"ray_version": "2', b"[]", b'{"ray_version": "1.0"}'])
def test_an_unreadable_list_is_made_anew(
    content: bytes, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / SNAPSHOT).write_bytes(content)
    assert mend(folder, caplog) == [2, 4]
    assert "cannot be read" in caplog.text and "goes on from step 4" in caplog.text


def test_a_checkpoint_that_is_gone_leaves_the_list(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(find(folder, 4))
    assert mend(folder, caplog) == [2]
    assert "1 of 2 checkpoints are not there or not whole" in caplog.text
    shutil.rmtree(find(folder, 2))
    assert mend(folder, caplog) == []
    assert "goes on from its begin" in caplog.text


@pytest.mark.parametrize("what", ["position", "metadata", "weights", "half"])
def test_a_checkpoint_that_is_not_whole_is_not_gone_on_from(
    what: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (weights,) = find(folder, 4).glob("*.distcp")
    if what == "half":
        weights.write_bytes(weights.read_bytes()[:-1])
    else:
        files = {"position": find(folder, 4) / POSITION, "metadata": find(folder, 4) / ".metadata"}
        files.get(what, weights).unlink()
    with caplog.at_level(logging.WARNING):
        mend_snapshot(str(folder))
    assert read_steps(folder) == [2] and "goes on from step 2" in caplog.text


def test_a_sound_list_stays_as_it_is(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = (folder / SNAPSHOT).read_bytes()
    shutil.copytree(find(folder, 4), folder / "checkpoint_2030-01-01_00-00-06")  # never reported
    with caplog.at_level(logging.WARNING):
        mend_snapshot(str(folder))
        mend_snapshot(str(folder.parent / "no-run"))
    assert (folder / SNAPSHOT).read_bytes() == before and not caplog.text


def test_whole_checkpoints_are_found_on_s3_too(folder: Path, s3: str) -> None:
    there = Location.connect(f"{s3}/run/checkpoints")
    there.fs.put(str(folder), there.path, recursive=True)
    names = [find(folder, step).name for step in (4, 2)]
    assert [one.step for one in find_whole(there, names)] == [2, 4]
    there.fs.rm(f"{there.path}/{names[0]}/{POSITION}")
    assert [one.step for one in find_whole(there, names)] == [2]
