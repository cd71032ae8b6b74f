"""jobs.select refuses what it cannot do with one line, and says what it did."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from c3l_ray.schema import VERSION
from jobs.select import run_command
from tests.evaluation.builders import write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30)).save(tmp_path / "image.png")
    write_run(tmp_path / "run", {"image": (tmp_path / "image.png").read_bytes()})
    return tmp_path / "run"


def select(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of a selection."""
    monkeypatch.setattr(sys, "argv", ["jobs.select", *arguments])
    try:
        run_command()
    except SystemExit as ending:
        assert isinstance(ending.code, int)
        return ending.code
    return 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--top nan", "--top nan: must be above 0"),
        ("--top -inf", "--top -inf: must be above 0"),
        ("--top -1", "--top -1.0: must be above 0"),
        ("--top 0", "--top 0.0: must be above 0"),
        ("--top inf", "--top inf: must be a share below 1 or a whole number of turns"),
        ("--top 1.5", "--top 1.5: must be a share below 1 or a whole number of turns"),
        ("--at-least nan", "--at-least nan: must be a finite number"),
        ("--at-least -inf", "--at-least -inf: must be a finite number"),
        ("--at-least 1 --by random", "--at-least 1.0: --by random has no score to compare"),
        ("--at-least 1e300", "--at-least 1e+300: no scored turn in "),
        ("--by text_logprob --at-least 0", "--at-least 0: no scored turn in "),
    ],
)
def test_a_number_that_means_nothing_is_refused(
    run: Path,
    flags: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert select(monkeypatch, "--input", str(run), *flags.split()) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {message}") and not printed.out
    assert not (run / "dataset").exists()


@pytest.mark.parametrize(
    "flags", ["--top 1e300", "--top 1", "--top 1e-300", "--at-least -1e300", "--seed -5"]
)
def test_a_number_of_any_size_is_taken(
    run: Path, flags: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert select(monkeypatch, "--input", str(run), *flags.split()) == 0
    summary = capsys.readouterr().out
    assert summary.startswith("selected 1 of 1 scored turns (1 images) by i2c, from 0.5 up\n")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


def find_only(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


BROKEN: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "no folder": (shutil.rmtree, 2, "not the output of a run: it has no run.json"),
    "a cut report": (lambda run: cut(run / "run.json"), 2, "cannot be read: "),
    "a list as report": (lambda run: (run / "run.json").write_text("[]"), 2, "its run.json is not"),
    "a report of others": (
        lambda run: (run / "run.json").write_text(json.dumps({"identity": {"schema": VERSION}})),
        *(2, "its run.json is not that of a run"),
    ),
    "no manifest": (lambda run: shutil.rmtree(run / "manifests"), 2, "holds no committed images"),
    "a cut manifest": (lambda run: cut(find_only(run / "manifests")), 1, "is not a manifest of"),
    "an empty manifest": (
        lambda run: find_only(run / "manifests").write_text(""),
        *(1, "is not a manifest of"),
    ),
    "a list as manifest": (
        lambda run: find_only(run / "manifests").write_text("[]"),
        *(1, "is not a manifest of"),
    ),
    "no records": (lambda run: find_only(run / "records").unlink(), 1, "cannot be read: "),
    "cut records": (lambda run: cut(find_only(run / "records")), 1, "cannot be read: "),
    "records of others": (
        lambda run: pq.write_table(pa.table({"turns": ["?"]}), find_only(run / "records")),
        *(1, "is no file of records of this version"),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_run_is_told_in_a_line(
    run: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    break_run, exit_status, message = BROKEN[name]
    break_run(run)
    assert select(monkeypatch, "--input", str(run)) == exit_status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_a_file_is_no_run(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = find_only(run / "records")
    assert select(monkeypatch, "--input", str(file)) == 2
    message = f"error: --input {file}: is a file, not the output folder of a run\n"
    assert capsys.readouterr().err == message
