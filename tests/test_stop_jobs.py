"""Jobs of this machine are asked to end, and nothing else is."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from c3l_ray import stop_jobs

WAITS = "import time; print('ready', flush=True); time.sleep(60)"
REFUSES = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Two jobs, one that does not end, another module and a shell that names a job."""
    for package, module, code in (
        ("jobs", "waits", WAITS),
        ("jobs", "refuses", REFUSES),
        ("other", "waits", WAITS),
        ("c3l_ray", "kuberay_job", WAITS),
    ):
        (tmp_path / package).mkdir(exist_ok=True)
        (tmp_path / package / "__init__.py").touch()  # else a package elsewhere comes first
        (tmp_path / package / f"{module}.py").write_text(code)
    commands = {
        "job": [sys.executable, "-m", "jobs.waits", "--input", "x"],
        "stubborn": [sys.executable, "-m", "jobs.refuses"],
        "in kuberay": [sys.executable, "-m", "c3l_ray.kuberay_job", "jobs.waits"],
        "module": [sys.executable, "-m", "other.waits"],
        "shell": ["sh", "-c", "echo ready; sleep 60; : python -m jobs.waits"],
    }
    started = {
        name: subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        for name, command in commands.items()
    }
    for process in started.values():
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    yield started
    for process in started.values():
        process.kill()
        process.wait()


def test_jobs_alone_get_sigterm_and_are_waited_for(
    processes: dict[str, subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {process.pid for process in processes.values()}
    found = {job.pid for job in stop_jobs.find_jobs()} & ours
    assert found == {processes[name].pid for name in ("job", "stubborn", "in kuberay")}
    # Tests of jobs may run beside this one.
    find_jobs = stop_jobs.find_jobs
    monkeypatch.setattr(
        stop_jobs, "find_jobs", lambda: (job for job in find_jobs() if job.pid in ours)
    )
    assert stop_jobs.stop_jobs(1.0) == 1
    assert all(processes[name].poll() is not None for name in ("job", "in kuberay"))
    assert all(processes[name].poll() is None for name in ("stubborn", "module", "shell"))
