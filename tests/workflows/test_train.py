"""Trainings that are refused before they start."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.distributed.devices import Device
from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.identity import Identity
from c3l_ray.methods.labels import LabelRules
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes import world
from c3l_ray.train.identity import training_identity
from c3l_ray.train.reading.sources import open_source
from c3l_ray.train.training_config import ModelToTune, Optimization, Progress, TrainConfig
from c3l_ray.workflows import train, training_report
from c3l_ray.workflows.summaries import summarize_training
from c3l_ray.workflows.train import train_model
from c3l_ray.workflows.training_report import TrainingReport
from tests.train.records import write_run


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records") / "run"
    write_run(folder, num_scenes=20)
    return folder


def make_config(records: Path, output: Path, **changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "input": (str(records),),
        "output": str(output),
        "model": ModelToTune(name=str(world.LLAVA)),
        "optim": Optimization(batch_size=2),
        "progress": Progress(held_out=0.0),
    }
    return TrainConfig(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": ("/nowhere",)}, "--input /nowhere: not the output of a run"),
        ({"model": ModelToTune(name="/nowhere")}, "--model.name /nowhere: no such folder"),
        ({"optim": Optimization(batch_size=21)}, "20 images to learn from, fewer than --optim.ba"),
        ({"labels": LabelRules(margin=2.0, require_gain=False)}, "0 images to learn from"),
        ({"progress": Progress(held_out=0.99)}, "images to learn from"),
        (
            {"model": ModelToTune(name=str(world.LLAVA), max_len=40)},
            "--model.max-len 40: the first 8 images need ",
        ),
    ],
)
def test_an_impossible_training_is_refused_before_the_start(
    records: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PreflightError, match=message):
        train_model(make_config(records, tmp_path / "tuned", **changes))
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize(
    ("asked", "gpus", "device", "expected"),
    [
        ("auto", 0.0, None, "float32"),
        ("auto", 1.0, Device(memory=1, has_bfloat16=True), "bfloat16"),
        ("auto", 1.0, Device(memory=1, has_bfloat16=False), "float32"),
        ("auto", 1.0, None, "auto"),  # of nodes that are still to come
        ("float32", 1.0, Device(memory=1, has_bfloat16=True), "float32"),
    ],
)
def test_the_precision_is_decided_where_the_gpus_are_known(
    tmp_path: Path, asked: Any, gpus: float, device: Device | None, expected: str
) -> None:
    model = ModelToTune(name="m", precision=asked)
    config = make_config(tmp_path, tmp_path / "tuned", model=model)
    assert train._decide_precision(config, gpus, device).model.precision == expected


def test_a_training_of_an_earlier_identity_is_refused_with_what_differs(
    records: Path, tmp_path: Path
) -> None:
    config = make_config(records, tmp_path / "tuned")
    source = open_source(config)
    content = training_identity(config, source, "m").content
    before = Identity({name: content[name] for name in content if name != "versions"})
    folder = RunFolder.open(str(tmp_path / "tuned"))
    folder.claim(before, "train")
    folder.write("model/config.json", b"{}")
    with pytest.raises(PreflightError, match=r"versions\.torch: None there, '\S+' now"):
        train_model(config)


@pytest.mark.parametrize(
    ("job", "flags", "where"),
    [
        ("train", ("--optim.learning-rate", "--answers.min-readable"), "into another output"),
        (
            "c3l",
            ("--training.optim.learning-rate", "--training.answers.min-readable"),
            "after .*tuned is removed: the rounds before it are kept",
        ),
    ],
)
def test_what_a_stopped_training_advises_are_flags_of_its_job(
    tmp_path: Path, job: str, flags: tuple[str, ...], where: str
) -> None:
    config = make_config(tmp_path, tmp_path / "tuned", job=job)
    stop = {"step": 3, "saved_step": 2, "reason": "unreadable"}
    with pytest.raises(C3LError, match=where) as stopped:
        train._raise_if_stopped(config, stop)
    assert all(f" {flag} " in str(stopped.value) for flag in flags)


def test_a_line_says_how_far_a_training_is_and_how_much_longer_it_takes() -> None:
    nothing = "progress steps=0/40 loss=? tokens_per_s=? minutes_left=?"
    assert training_report.format_progress([], 40) == nothing
    lines: list[dict[str, float | None]] = [
        {"step": 10, "loss": 2.0, "tokens_per_s": 1234.4, "seconds_per_step": 6.0},
        {"step": 20, "held_out_loss": 1.0, "loss": 1.5, "seconds_per_step": 3.0, "mfu": None},
    ]
    line = training_report.format_progress(lines, 40)
    assert line == "progress steps=20/40 loss=1.5 tokens_per_s=1234 minutes_left=1.0"


def test_a_report_counts_the_skipped_images_and_has_notes() -> None:
    lines: list[dict[str, float | None]] = [
        {"loss": 1.0, "skipped_too_long": 1, "skipped_altered_text": 0},
        {"held_out_loss": 2.0},
        {"loss": 0.5, "skipped_too_long": 3, "skipped_altered_text": 0},
    ]
    assert training_report.count_skipped(training_report.find_latest(lines)) == {"too_long": 3}
    report = TrainingReport(
        images=20,
        held_out_images=0,
        mixture={},
        steps=1,
        objective="c3l",
        tune="lora",
        model={},
        origin="o",
        identity={},
        config={"model": {"name": "m"}},
        seconds={"wall": 1.0},
        left_out_turns={"answers_agree": 2, "small_spread": 5},
        skipped={"unusable_image": 1, "too_long": 3},
        notes=["images are larger"],
    )
    assert "  skipped  too_long 3, unusable_image 1\n" in summarize_training(report, "out")
    assert "  left out turns: small_spread 5, answers_agree 2\n" in summarize_training(
        report, "out"
    )
    assert "  note     images are larger\n" in summarize_training(report, "out")
    report = dataclasses.replace(report, skipped={}, notes=[], left_out_turns={})
    assert "left out" not in summarize_training(report, "out")
    assert "skipped" not in summarize_training(report, "out")
    assert "note" not in summarize_training(report, "out")


@pytest.mark.parametrize(
    ("of_run", "asked", "expected", "num_notes"),
    [
        ({"max_pixels": 4096}, None, 4096, 0),
        ({"max_pixels": 4096}, 4096, 4096, 0),
        ({"max_pixels": 4096}, 9999, 9999, 1),
        ({}, None, 1_048_576, 0),
        ({}, 9999, 9999, 0),
    ],
)
def test_images_are_learnt_at_the_size_that_their_run_saw(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    of_run: dict[str, Any],
    asked: int | None,
    expected: int,
    num_notes: int,
) -> None:
    write_run(tmp_path / "run", num_scenes=1, **of_run)
    config = make_config(tmp_path / "run", tmp_path / "tuned", max_pixels=asked)
    source = pickle.loads(pickle.dumps(open_source(config)))
    config, notes = train._take_max_pixels(config, source)
    assert config.image_pixels == expected
    assert training_identity(config, source, "m").content["max_pixels"] == expected
    assert len(notes) == len(caplog.messages) == num_notes
    assert all("--max-pixels 9999" in note and "at most 4096 pixels" in note for note in notes)


def test_records_without_images_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run", num_scenes=0, keep_images=False)
    with pytest.raises(PreflightError, match="its records hold no images"):
        train_model(make_config(tmp_path / "run", tmp_path / "tuned"))
