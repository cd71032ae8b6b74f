"""jobs.report writes a page, and refuses what it cannot with one line."""

import sys
from pathlib import Path

import pytest

from jobs.report import run_command
from tests.report.runs import make_records, write_run


def report(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of a report."""
    monkeypatch.setattr(sys, "argv", ["jobs.report", *arguments])
    try:
        run_command()
    except SystemExit as ending:
        assert isinstance(ending.code, int)
        return ending.code
    return 0


def test_the_page_lies_in_the_run_or_where_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", make_records(3))
    assert report(monkeypatch, str(run), "--by", "gain") == 0
    assert capsys.readouterr().out == f"wrote {run}/report.html\n"
    assert "Ranked by <b>gain</b>" in (run / "report.html").read_text()
    assert report(monkeypatch, str(run), "--output", str(tmp_path / "new" / "a.html")) == 0
    assert (tmp_path / "new" / "a.html").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{run} --by random", "--by random: is no score of a turn"),
        ("{run} --max-turns 0", "--max-turns 0: must be "),
        ("{run} --output {run}/run.json", "--output {run}/run.json: name a file that ends in"),
        ("{run} --output {folder}", "--output {folder}: is a folder"),
        ("{run}/records", "RUN {run}/records: not the output of a run"),
        ("gs://bucket/run", "RUN gs://bucket/run: only local paths and s3:// are supported"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path,
    arguments: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, folder = write_run(tmp_path / "run", make_records(1)), tmp_path / "folder.html"
    folder.mkdir()
    before = (run / "run.json").read_bytes()
    words = arguments.format(run=run, folder=folder).split()
    assert report(monkeypatch, *words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {message.format(run=run, folder=folder)}")
    assert not printed.out and printed.err.count("\n") == 1
    assert (run / "run.json").read_bytes() == before


def test_a_page_is_not_put_into_a_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "selection.json").write_text('{"origin": "o"}')
    assert report(monkeypatch, str(tmp_path)) == 2
    assert "holds datasets only" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["selection.json"]
