"""What a run decided from its machine and its models is not mistaken for what its user asked."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any, TypeVar

import pytest

from c3l_ray.config import GenerateConfig, ScoreConfig
from c3l_ray.model_config import GeneratorModel, Pools, RequiredScorerModel, ScorerModel
from c3l_ray.train.training_config import ModelToTune, TrainConfig, Workers
from c3l_ray.workflows.c3l_config import C3LConfig
from jobs.earlier_settings import parse_flags

Config = TypeVar("Config")

DECIDED = GenerateConfig(
    input=("shards",),
    output="first",
    model=GeneratorModel(
        name="llava",
        revision="commit",
        dtype="float16",
        gpu_memory=0.63,
        template_args=("enable_thinking=false",),
    ),
    scorer=ScorerModel(
        name="llava", revision="commit", dtype="float16", template_args=("enable_thinking=false",)
    ),
    pools=Pools(generators=1, generator_gpus=0.7),
    reply_format="json",
    prompt_date="2026-01-31",
)
"""As run.json has it of `jobs.generate --input shards --output first --model.name llava`."""


def take(
    tmp_path: Path,
    config: Config,
    job: str,
    *flags: str,
    command: str = "--model.name llava",
) -> Config:
    """The settings that a new command takes of a run that a command began."""
    path = tmp_path / "run.json"
    commands = [
        {"command": f"python -m jobs.{job} --{word} --input shards"}
        for word in ("model.gpu-memory 0.9", command.removeprefix("--"))
    ]
    report = {"job": job, "config": dataclasses.asdict(config), "commands": commands}  # type: ignore[call-overload]
    path.write_text(json.dumps(report))
    flags = ("--config", str(path), "--output", "second", *flags)
    return parse_flags(type(config), flags, f"python -m jobs.{job}")


def test_the_same_model_is_taken_as_it_was_pinned_and_no_share_of_a_gpu(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        taken = take(tmp_path, DECIDED, "generate")
    assert taken.model == dataclasses.replace(DECIDED.model, gpu_memory=None)
    assert (taken.pools, taken.scorer.name, taken.scorer.revision) == (Pools(), None, None)
    assert (taken.reply_format, taken.prompt_date) == ("json", "2026-01-31")
    (line,) = caplog.messages
    assert line.startswith("--model.gpu-memory 0.63 of ") and line.endswith("is not taken")


@pytest.mark.parametrize(
    "command",
    [
        "--model.gpu-memory 0.63",
        "--model.gpu_memory=0.63",
        "--model.name 'a b' --model.gpu-memory 1",
    ],
)
def test_a_share_that_was_typed_is_taken(tmp_path: Path, command: str) -> None:
    assert take(tmp_path, DECIDED, "generate", command=command).model.gpu_memory == 0.63


def test_a_share_that_an_earlier_run_was_told_is_taken_through_several(tmp_path: Path) -> None:
    first = tmp_path / "first.json"
    for name, command in (("first", "--model.gpu-memory 0.63"), ("first", "--config=first.json")):
        first.write_text(json.dumps({"commands": [{"command": f"x {command}"}]}))
        through = take(tmp_path, DECIDED, "generate", command=f"--config {tmp_path / name}.json")
        typed = command.startswith("--model")
        assert through.model.gpu_memory == (0.63 if typed else None)
    for command in ("--config /nowhere/run.json", "--config", "'unclosed"):
        assert take(tmp_path, DECIDED, "generate", command=command).model.gpu_memory is None
    first.write_text(json.dumps({"commands": [{"command": f"x --config {first}"}]}))  # a circle
    assert take(tmp_path, DECIDED, "generate", command=f"--config {first}").model.gpu_memory is None


def test_another_model_takes_nothing_that_was_decided_for_the_first(tmp_path: Path) -> None:
    taken = take(tmp_path, DECIDED, "generate", "--model.name", "other")
    assert taken.model == GeneratorModel(name="other")
    assert taken.scorer == ScorerModel()  # the new generator itself
    assert taken.reply_format == "auto"
    typed = "--model.revision commit --model.dtype float16 --reply-format json --scorer.name llava"
    taken = take(tmp_path, DECIDED, "generate", "--model.name", "other", command=typed)
    # Neither a commit nor trust in code goes over to another name, typed or not.
    assert taken.model == GeneratorModel(name="other", dtype="float16")
    assert taken.scorer == DECIDED.scorer and taken.reply_format == "json"
    flags = ("--model.name", "other", "--model.revision", "v2", "--model.dtype", "bfloat16")
    taken = take(tmp_path, DECIDED, "generate", *flags)
    assert taken.model == GeneratorModel(name="other", revision="v2", dtype="bfloat16")


def test_trust_in_the_code_of_a_model_is_not_taken_for_another_one(tmp_path: Path) -> None:
    scorer = RequiredScorerModel(name="a", revision="commit", trust_remote_code=True)
    earlier = ScoreConfig(input=("turns",), output="first", scorer=scorer)
    assert take(tmp_path, earlier, "score").scorer == scorer
    taken = take(tmp_path, earlier, "score", "--scorer.name", "b", command="--scorer.name a")
    assert taken.scorer == RequiredScorerModel(name="b")


def test_a_scorer_that_is_not_the_generator_stays(tmp_path: Path) -> None:
    """As that of a round by a tuned model, which no command named."""
    scorer = dataclasses.replace(DECIDED.scorer, name="untuned")
    earlier = dataclasses.replace(DECIDED, scorer=scorer)
    assert take(tmp_path, earlier, "generate", "--model.name", "other").scorer == scorer


def test_a_training_takes_no_gpus_of_a_trial_and_no_size_of_other_images(tmp_path: Path) -> None:
    trial = TrainConfig(
        input=("run",),
        output="first",
        model=ModelToTune(name="llava"),
        workers=Workers(num=2, gpus=0.0),
        max_pixels=5_000,
    )

    def take_training(*flags: str, command: str = "--input run") -> tuple[Any, ...]:
        taken = take(tmp_path, trial, "train", *flags, command=command)
        return taken.workers.num, taken.workers.gpus, taken.max_pixels

    assert take_training() == (2, None, 5_000)
    assert take_training("--input", "other") == (2, None, None)
    assert take_training(command="--training.workers.gpus 0") == (2, 0.0, 5_000)  # of jobs.c3l
    typed = "--workers.gpus 0 --max-pixels 5000"
    assert take_training("--input", "other", command=typed) == (2, 0.0, 5_000)


def test_c3l_takes_the_commit_of_its_model_too(tmp_path: Path) -> None:
    earlier = C3LConfig(**{**vars(DECIDED), "top": 5})
    taken = take(tmp_path, earlier, "c3l")
    assert (taken.model.revision, taken.model.dtype, taken.top) == ("commit", "float16", 5)
