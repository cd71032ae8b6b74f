"""Exit statuses as KubeRay is told them, of real commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from c3l_ray import kuberay_job

WRAPPER = (sys.executable, "-m", "c3l_ray.kuberay_job")


@pytest.mark.parametrize(
    ("status", "told"), [(0, 0), (1, 1), (2, 0), (4, 0), (5, 0), (3, 3), (130, 130), (143, 143)]
)
def test_only_what_is_in_vain_is_not_told(status: int, told: int, tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").touch()
    code = (
        f"import sys\nif __name__ == '__main__':\n    print(sys.argv[1:])\n    sys.exit({status})"
    )
    (tmp_path / "jobs" / "pretend.py").write_text(code)
    root = Path(__file__).parent.parent
    ended = subprocess.run(
        [*WRAPPER, "jobs.pretend", "--input", "a b"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{root}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (told, "['--input', 'a b']\n"), ended.stderr
    assert (f"NOT DONE: the job ended with status {status}: " in ended.stderr) == (told != status)


@pytest.mark.parametrize(("ending", "told"), [("sys.exit(4)", 0), ("os._exit(4)", 0)])
def test_run_json_says_what_kuberay_is_not_told(ending: str, told: int, tmp_path: Path) -> None:
    """Also of a job that ends at once, while a thread still follows its work."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").touch()
    code = (
        "import os, sys\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        raise ValueError('9 of 10 images failed\\nsee above')\n"
        "    except ValueError:\n"
        f"        {ending}\n"
    )
    (tmp_path / "jobs" / "pretend.py").write_text(code)
    output = tmp_path / "run"
    output.mkdir()
    (output / "run.json").write_text(json.dumps({"job": "generate", "state": "finished"}))
    ended = subprocess.run(
        [*WRAPPER, "jobs.pretend", "--output", str(output)],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parent.parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == told, ended.stderr
    assert "NOT DONE: the job ended with status 4: " in ended.stderr
    report = json.loads((output / "run.json").read_text())
    assert (report["job"], report["state"]) == ("generate", "finished")
    assert (report["not_done"]["status"], report["not_done"]["reason"]) == (
        4,
        "9 of 10 images failed",
    )


@pytest.mark.parametrize(
    ("flags", "output"),
    [
        (["--input", "a", "--output", "b", "--top", "1"], "b"),
        (["--output=s3://bucket/run"], "s3://bucket/run"),
        (["--output"], None),
        (["--input", "--outputs"], None),
    ],
)
def test_the_output_is_found_among_the_flags(flags: list[str], output: str | None) -> None:
    assert kuberay_job._find_output(flags) == output


def test_a_real_job_that_refuses_its_flags_ends_well_and_says_so() -> None:
    ended = subprocess.run(
        [*WRAPPER, "jobs.generate", "--no-such-flag"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0
    assert "NOT DONE: the job ended with status 2: " in ended.stderr


def test_what_is_no_job_is_not_run() -> None:
    ended = subprocess.run([*WRAPPER, "this"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and ended.stderr.startswith("usage: ")


def test_help_teaches() -> None:
    ended = subprocess.run([*WRAPPER, "--help"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and ended.stdout.startswith("usage: ")
    assert "KubeRay" in ended.stdout
