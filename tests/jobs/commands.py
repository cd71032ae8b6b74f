"""Jobs as a user starts them: their commands over the shipped models, and what they leave."""

import contextlib
import importlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from c3l_ray.scenes import world
from c3l_ray.schema import RECORDS

ROOT = Path(__file__).parent.parent.parent


def make_command(job: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", f"jobs.{job}", *flags]


def run_job(job: str, *flags: str, timeout_s: float = 550) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        make_command(job, *flags),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def call_job(job: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """The job within this process, whose libraries are imported already: seconds less of a core.

    Ray, the actors and the engine are processes all the same. Each job has one test at least that
    starts it with `run_job`.
    """
    command = [f"jobs.{job}", *flags]
    printed, logged = io.StringIO(), io.StringIO()
    exit_status: Any = 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(logged),
    ):
        patch.setattr(sys, "argv", command)
        try:
            importlib.import_module(f"jobs.{job}").run_command()
        except SystemExit as end:
            exit_status = end.code
        finally:
            ray.shutdown()
    return subprocess.CompletedProcess(
        command, exit_status, stdout=printed.getvalue(), stderr=logged.getvalue()
    )


def generate_flags(input_: Path | str, output: Path | str, *more: str) -> list[str]:
    return [
        *("--input", str(input_), "--output", str(output)),
        *("--model.name", str(world.LLAVA), "--model.dtype", "float32"),
        *("--model.max-len", "256", "--model.max-seqs", "32", "--sampling.max-tokens", "96"),
        *("--clip.name", str(world.CLIP)),
        *more,
    ]


def score_flags(input_: Path | str, output: Path | str, *more: str) -> list[str]:
    return [
        *("--input", str(input_), "--output", str(output)),
        *("--scorer.name", str(world.LLAVA), "--scorer.dtype", "float32"),
        *("--clip.name", str(world.CLIP)),
        *more,
    ]


def c3l_flags(images: Path | str, output: Path | str, *more: str) -> list[str]:
    flags = (
        *("--clip.weights", "None", "--top", "5"),
        *("--training.optim.batch-size", "4", "--training.progress.log-every", "1"),
    )
    return generate_flags(images, output, *flags, *more)


def check_refusal(refused: subprocess.CompletedProcess[str], message: str) -> None:
    """A job that was refused before its start says why in one message, and has status 2."""
    assert refused.returncode == 2, refused.stderr
    assert message in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr


def read_records(output: Path) -> list[dict[str, Any]]:
    files = sorted((output / "records").glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(file) for file in files])
    assert table.schema.equals(RECORDS)
    return list(table.to_pylist())


def read_report(output: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((output / "run.json").read_text())
    return report
