"""A run that is stopped, and then killed, and what the same command makes of it."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from c3l_ray.runs.commit import read_manifests
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes import world
from tests.jobs.commands import (
    ROOT,
    generate_flags,
    make_command,
    read_records,
    read_report,
    run_job,
)


def read_units_done(output: Path) -> set[str]:
    return {manifest.unit for manifest in read_manifests(RunFolder.open(str(output)))}


@contextlib.contextmanager
def begin_job(output: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """A job of its own session, which has committed a unit."""
    before = read_units_done(output)
    with subprocess.Popen(
        make_command("generate", *flags),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as job:
        deadline = time.monotonic() + 240
        while read_units_done(output) == before:
            assert job.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield job


def test_a_stopped_and_killed_run_resumes_and_ends_with_the_same_records(tmp_path: Path) -> None:
    """With its first unit committed it is stopped by SIGTERM, and then killed; nothing is twice.

    The one that is stopped was to do the first images only, which end within a shard.
    """
    world.write_scenes(tmp_path / "in", num_scenes=50, scenes_per_shard=5)
    more = ("--turns-per-image", "10")
    output = tmp_path / "run"
    flags = generate_flags(tmp_path / "in", output, *more)
    with begin_job(output, *flags, "--limit", "23") as job:
        job.terminate()
        _, logged = job.communicate(timeout=120)
    assert job.returncode == 143, logged
    stopped = read_units_done(output)
    report = read_report(output)
    assert 0 < len(stopped) <= 5 and report["images"] == sum(
        manifest.counts.images for manifest in read_manifests(RunFolder.open(str(output)))
    )
    assert logged.splitlines()[-1] == (
        f"stopped by SIGTERM; {report['images']} of 23 images are committed in {output}; "
        "run the same command again to go on from there"
    )
    assert "Traceback" not in logged and "SIGTERM received" not in logged
    assert (report["state"], report["finished"]) == ("stopped", None)
    with begin_job(output, *flags) as job:
        os.killpg(job.pid, signal.SIGKILL)
    done = read_units_done(output)
    assert stopped < done and len(done) < 11
    killed = read_report(output)
    assert (killed["state"], killed["finished"]) == ("running", None)
    again = run_job("generate", *flags)
    assert again.returncode == 0, again.stderr
    states = [command["state"] for command in read_report(tmp_path / "run")["commands"]]
    assert states == ["stopped", "running", "finished"]
    assert f"11 units; {len(done)} of these are done" in again.stderr
    records = read_records(tmp_path / "run")
    assert len({record["image_id"] for record in records}) == len(records) == 50
    assert read_report(tmp_path / "run")["images"] == 50
    whole = run_job("generate", *generate_flags(tmp_path / "in", tmp_path / "whole", *more))
    assert whole.returncode == 0, whole.stderr
    texts, texts_of_whole = (
        {
            (record["image_id"], place): turn["reply"] or turn["answer"]
            for record in read_records(tmp_path / name)
            for place, turn in enumerate(record["turns"])
        }
        for name in ("run", "whole")
    )
    assert texts == texts_of_whole
