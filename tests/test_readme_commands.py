"""The commands of README.md are run, as far as that takes neither an engine nor a download.

What reads a run is run on a small one. What makes one is run until it would start Ray: its flags,
input, models and output are checked then.
"""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from c3l_ray.distributed import cluster
from c3l_ray.errors import PreflightError
from jobs.demo import DemoConfig, draw_input
from tests.pages import ROOT, Command, read_pages
from tests.report.runs import make_records, write_run

README = read_pages()["README.md"]
COMMANDS = [command for command in README.commands() if command.job]
MODEL = "HuggingFaceTB/SmolVLM-256M-Instruct"
NUM_IMAGES = 20


def commands_of(*jobs: str) -> list[Command]:
    return [command for command in COMMANDS if command.job in jobs]


def run_job(job: str | None, arguments: list[str]) -> int:
    """Runs a job in this process and returns its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"jobs.{job}", *arguments])
        try:
            importlib.import_module(f"jobs.{job}").run_command()
        except SystemExit as end:
            assert isinstance(end.code, int)
            return end.code
    return 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands are typed in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_a_job_is_run_here() -> None:
    assert [command.job for command in COMMANDS] == ["generate", "report", "select", "c3l"]


def test_a_run_is_shown_selected_from_and_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 30), "red").save(folder / "red.png")
    records = make_records(NUM_IMAGES, image=(folder / "red.png").read_bytes())
    for number, record in enumerate(records):
        record["turns"][0]["scores"] |= {"grounding": number / 100, "gain": 1.0}
    write_run(folder / "runs" / "mine", records, job="generate", config={})
    for command in commands_of("report", "select"):
        assert run_job(command.job, command.arguments) == 0, capsys.readouterr().err
    assert (folder / "runs" / "mine" / "report.html").read_text().startswith("<!")
    selection = json.loads((folder / "runs" / "best" / "selection.json").read_text())
    assert (selection["turns"], selection["by"]) == (NUM_IMAGES // 10, "grounding")
    shown: list[tuple[int, int]] = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image.size))
    capsys.readouterr()
    (code,) = README.blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert shown == [(40, 30)] * len(printed) and len(printed) == NUM_IMAGES // 10
    assert all("'role': 'user'" in line for line in printed)
    assert {round(float(line.split()[-1]), 6) for line in printed} == {0.18, 0.19}
    for job in ("status", "failed"):  # of the table of jobs
        assert run_job(job, ["runs/mine"]) == 0
    assert "runs/mine: generate, " in capsys.readouterr().out


@pytest.mark.parametrize("command", commands_of("generate", "c3l"), ids=str)
def test_a_command_without_its_images_is_refused(
    command: Command, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_job(command.job, command.arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: --input photos: ")
    assert not (folder / "runs").exists()


def test_the_words_for_a_trial_without_a_download_are_true(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = re.findall(
        r"^To try these commands without a download.*?\n\n", README.text, re.M | re.S
    )
    demo_input, photos, llava, clip, *jobs = re.findall(r"`([^`]+)`", text)
    assert photos == "photos" and jobs == ["jobs.generate", "jobs.c3l"]
    draw_input(DemoConfig(num_scenes=1))
    (folder / "c3l_ray").symlink_to(ROOT / "c3l_ray")

    def connect(num_actors: int, *, verbose: bool) -> None:
        raise PreflightError("all is well until here")

    monkeypatch.setattr(cluster, "connect", connect)
    for command in commands_of("generate", "c3l"):
        words = {photos: demo_input, MODEL: llava}
        arguments = [words.get(word, word) for word in command.arguments]
        assert {demo_input, llava} <= {*arguments}
        assert run_job(command.job, [*arguments, *clip.split()]) == 2
        assert "error: all is well until here\n" in capsys.readouterr().err
        output = Path(arguments[arguments.index("--output") + 1])
        assert json.loads((output / "run.json").read_text())["job"] == command.job
