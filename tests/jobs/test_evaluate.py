import json
import shutil
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.benchmark_config import BenchmarkName
from c3l_ray.benchmarks import mme, pope, scienceqa, seed_bench
from c3l_ray.scenes.world import CLIP, LLAVA
from c3l_ray.schema import VERSION
from jobs.evaluate import run_command
from tests.evaluation.builders import write_run
from tests.examples import RECORD
from tests.jobs.commands import ROOT


def evaluate(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs.evaluate", *arguments])
    run_command()


def test_rounds_prints_a_column_for_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / name for name in ("first", "second")]
    for path in paths:
        write_run(path, {})
    evaluate(monkeypatch, "rounds", *map(str, paths))
    assert capsys.readouterr().out.split()[:2] == ["first", "second"]


def test_corrections_prints_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, {})
    evaluate(monkeypatch, "corrections", str(tmp_path))
    assert "correction generated 8 tokens and kept 5" in capsys.readouterr().out


def test_world_measures_the_shipped_models_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[dict[str, Any]] = []

    def measure_world(**options: Any) -> str:
        calls.append(options)
        return "a report"

    monkeypatch.setattr("c3l_ray.evaluation.shipped_world.measure_world", measure_world)
    evaluate(monkeypatch, "world", "--num-scenes", "3")
    numbers = {"num_scenes": 3, "num_ranked": 480, "temperature": 0.7}
    assert calls == [{"llava": LLAVA, "clip": CLIP, **numbers}]
    assert capsys.readouterr().out == "a report\n"


def test_help_says_which_files_each_benchmark_wants(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        evaluate(monkeypatch, "benchmark", "--help")
    shown = capsys.readouterr().out
    page = (ROOT / "jobs/README.md").read_text()
    files = {
        "pope": [f"*pope_{strategy}.json" for strategy in pope.STRATEGIES],
        "mme": [mme.PERCEPTION[0]],
        "mmbench": [".tsv"],
        "scienceqa": [scienceqa.FILE, *scienceqa.IMAGE_FOLDERS[:1]],
        "seed-bench": [seed_bench.FILE],
    }
    assert files.keys() == {*typing.get_args(BenchmarkName)}
    for name, wanted in files.items():
        entry = shown[shown.index(f"    {name}  ") :]
        assert all(file in entry for file in wanted), name
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert all(file in row for file in wanted), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rounds"], "error: RUN: name at least one run"),
        (["rounds", "nowhere"], "error: RUN nowhere: not the output of a run"),
        (["corrections", "nowhere"], "error: RUN nowhere: not the output of a run"),
        (["world", "--temperature", "-1"], "error: --temperature -1.0: must be at least 0"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ending:
        evaluate(monkeypatch, *arguments)
    assert ending.value.code == 2
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize("arguments", ["rounds", "corrections"])
@pytest.mark.parametrize(
    ("file", "content", "status", "message"),
    [
        ("run.json", "[]", 2, "its run.json is not that of a run"),
        ("run.json", '{"job": "gen', 2, "cannot be read: "),
        ("manifests/unit.json", "", 1, "is not a manifest of this version"),
        ("manifests/unit.json", '{"unit": "unit"}', 1, "is not a manifest of this version"),
        (".", "", 2, "is a file, not the output folder of a run"),
    ],
)
def test_a_broken_run_is_told_in_a_line(
    arguments: str,
    file: str,
    content: str,
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_run(tmp_path / "run", {})
    if file == ".":
        shutil.rmtree(tmp_path / "run")
    (tmp_path / "run" / file).write_text(content)
    with pytest.raises(SystemExit) as ending:
        evaluate(monkeypatch, arguments, str(tmp_path / "run"))
    assert ending.value.code == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_a_run_that_is_not_finished_is_judged_by_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, {})
    claimed = {"job": "generate", "identity": {"schema": VERSION}, "origin": "o", "finished": None}
    (tmp_path / "run.json").write_text(json.dumps(claimed))
    evaluate(monkeypatch, "corrections", str(tmp_path))
    assert "correction generated 8 tokens and kept 5" in capsys.readouterr().out


def test_a_score_that_a_run_lacks_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turn = RECORD["turns"][0]
    write_run(tmp_path, {"turns": [{**turn, "scores": {**turn["scores"], "clip": None}}]})
    evaluate(monkeypatch, "rounds", str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if "by clip" in line] == [["by", "clip", "-", "-"]]


@pytest.mark.parametrize("arguments", [["--help"], ["world", "--help"]], ids=" ".join)
def test_help_imports_no_heavy_library(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['jobs.evaluate', *{arguments!r}]\n"
        "from jobs.evaluate import run_command\n"
        "try:\n"
        "    run_command()\n"
        "except SystemExit:\n"
        "    heavy = {'torch', 'vllm', 'ray', 'transformers'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "usage: python -m jobs.evaluate" in ended.stdout
