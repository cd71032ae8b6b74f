"""Jobs of this machine are asked to end, and nothing else is."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from c3l_ray import stop_jobs

WAITS = "import time; print('ready', flush=True); time.sleep(60)"
END = ("job", "console script", "unbuffered", "in kuberay")
REFUSES = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Jobs, one of which does not end, another module and a shell that names a job."""
    for package, module, code in (
        ("jobs", "waits", WAITS),
        ("jobs", "refuses", REFUSES),
        ("other", "waits", WAITS),
        ("c3l_ray", "kuberay_job", WAITS),
    ):
        (tmp_path / package).mkdir(exist_ok=True)
        (tmp_path / package / "__init__.py").touch()  # else a package elsewhere comes first
        (tmp_path / package / f"{module}.py").write_text(code)
    (tmp_path / "c3l-ray").write_text(WAITS)  # Python runs a console script as its first argument
    commands = {
        "console script": [sys.executable, str(tmp_path / "c3l-ray"), "generate", "--input", "x"],
        "unbuffered": [sys.executable, "-u", "-X", "utf8", "-m", "jobs.waits"],
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
    assert found == {processes[name].pid for name in (*END, "stubborn")}
    # Tests of jobs may run beside this one.
    find_jobs = stop_jobs.find_jobs
    monkeypatch.setattr(
        stop_jobs, "find_jobs", lambda: (job for job in find_jobs() if job.pid in ours)
    )
    assert stop_jobs.stop_jobs(1.0) == 1
    assert all(processes[name].poll() is not None for name in END)
    assert all(processes[name].poll() is None for name in ("stubborn", "module", "shell"))


@pytest.mark.parametrize(
    ("command", "is_job"),
    [
        ("/venv/bin/python3 -m jobs.generate --input x", True),
        ("/venv/bin/python3 /venv/bin/c3l-ray generate", True),
        ("/venv/bin/python3 /venv/bin/c3l-ray", False),  # its help
        ("/venv/bin/python3 -m pytest -m jobs.generate", False),
        ("/venv/bin/python3 script.py -m jobs.generate", False),
        ("/venv/bin/python3 -m", False),
        ("vim /venv/bin/c3l-ray generate", False),
        ("", False),
    ],
)
def test_a_job_is_told_by_what_python_runs(command: str, is_job: bool) -> None:
    assert stop_jobs.is_job(command.split()) == is_job


@pytest.mark.parametrize(
    ("argument", "status", "text"),
    [
        ("--help", 0, "Sends SIGTERM to every job of this machine"),
        ("soon", 2, "must be a number of seconds, not soon"),
        ("nan", 2, "not nan"),
        (None, 2, "the following arguments are required: seconds"),
    ],
)
def test_the_command_teaches(argument: str | None, status: int, text: str) -> None:
    command = [sys.executable, "-m", "c3l_ray.stop_jobs", *([argument] if argument else [])]
    root = Path(__file__).parent.parent
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == status and text in ended.stdout + ended.stderr
