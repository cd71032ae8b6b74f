import importlib
import sys

import pytest

from jobs import cli
from tests.jobs.commands import ROOT


def test_help_lists_every_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        monkeypatch.setattr(sys, "argv", ["c3l-ray", *arguments])
        cli.main()
        help_ = capsys.readouterr().out
        assert all(f"\n  {job} " in help_ for job in cli.JOBS)


def test_an_unknown_job_is_refused_with_status_2_and_the_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["c3l-ray", "generat", "--input", "x"])
    with pytest.raises(SystemExit) as raised:
        cli.main()
    assert raised.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: no job is called 'generat'\n")
    assert all(f"\n  {job} " in message for job in cli.JOBS)


def test_every_module_that_runs_a_job_is_listed() -> None:
    modules = {path.stem for path in (ROOT / "jobs").glob("*.py")}
    others = {"__init__", "cli", "command_line", "earlier_settings", "settings_taken"}
    assert modules - others == {*cli.JOBS}
    assert all(callable(importlib.import_module(f"jobs.{job}").run_command) for job in cli.JOBS)


def test_a_job_gets_its_flags_and_is_named_as_it_was_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["c3l-ray", "select", "--top", "x"])
    with pytest.raises(SystemExit) as raised:
        cli.main()
    assert raised.value.code == 2
    message = capsys.readouterr().err
    assert "c3l-ray select" in message and "--input" in message
