"""Jobs that write records, started to be interrupted."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from c3l_ray.runs.commit import read_manifests
from c3l_ray.runs.folder import RunFolder
from tests.jobs.commands import ROOT, make_command


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
            assert job.poll() is None, job.communicate()[1]
            assert time.monotonic() < deadline, "no unit was committed"
            time.sleep(0.05)
        yield job
