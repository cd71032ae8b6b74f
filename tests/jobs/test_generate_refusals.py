"""What jobs.generate refuses before anything starts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs.commands import check_refusal, generate_flags, run_job

MakeFlags = Callable[[Path], list[str]]
REFUSALS: dict[str, tuple[MakeFlags, str]] = {
    "no flags": (lambda _: [], "required"),
    "an unknown flag": (
        lambda path: [*generate_flags(path, path / "run"), "--turnz", "3"],
        "turnz",
    ),
    "a value of a wrong type": (
        lambda path: generate_flags(path, path / "run", "--turns-per-image", "many"),
        "--turns-per-image",
    ),
    "a value out of range": (
        lambda path: generate_flags(path, path / "run", "--turns-per-image", "0"),
        "--turns-per-image 0: must be at least 1",
    ),
    "an input that is not there": (
        lambda path: generate_flags(path / "absent", path / "run"),
        "absent: does not exist",
    ),
    "an empty input": (lambda path: generate_flags(path, path / "run"), "holds no .tar"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_flags_are_refused_with_status_2_and_no_trace(case: str, tmp_path: Path) -> None:
    make_flags, message = REFUSALS[case]
    check_refusal(run_job("generate", *make_flags(tmp_path)), message)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_model_is_refused(scenes: Path, tmp_path: Path) -> None:
    flags = generate_flags(scenes, tmp_path / "run", "--model.name", str(tmp_path))
    refused = run_job("generate", *flags)
    check_refusal(refused, f"--model.name {tmp_path}: not a model")
    assert not (tmp_path / "run").exists()
