"""Settings of an earlier run: what is taken of them, what flags change, and what is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.answer_config import AnswerConfig
from c3l_ray.config import GenerateConfig, ScoreConfig
from c3l_ray.errors import PreflightError
from c3l_ray.model_config import GeneratorModel, Pools
from c3l_ray.select_config import SelectConfig
from c3l_ray.train.training_config import ModelToTune, TrainConfig
from c3l_ray.workflows.c3l_config import C3LConfig
from c3l_ray.workflows.plan import PlanConfig
from jobs.earlier_settings import describe_flag, parse_flags, takes_earlier_settings

EARLIER = GenerateConfig(
    input=("shards",),
    output="first",
    model=GeneratorModel(name="llava", max_seqs=7, template_args=("thinking=false",)),
    pools=Pools(generators=5),
    wordings={"detail": ("Ask.", "Pose.")},
    instructions="mine.json",
    limit=10,
    retry_failed=(),
    answers=3,
)


def write_report(path: Path, config: Any, job: str, **changes: Any) -> str:
    settings = {**dataclasses.asdict(config), **changes}
    path.write_text(json.dumps({"job": job, "version": "0.4.0", "config": settings}))
    return str(path)


def test_all_is_taken_but_what_belongs_to_one_command(tmp_path: Path) -> None:
    address = write_report(tmp_path / "run.json", EARLIER, "generate")
    flags = ["--config", address, "--output", "second", "--answers", "4"]
    expected = dataclasses.replace(
        EARLIER,
        output="second",
        answers=4,
        pools=Pools(),
        limit=None,
        retry_failed=None,
        instructions=None,  # the wordings themselves are taken
    )
    assert parse_flags(GenerateConfig, flags, "python -m jobs.generate") == expected
    flags[:2] = [f"--config={address}"]
    assert parse_flags(GenerateConfig, flags, "c3l-ray generate") == expected


@pytest.mark.parametrize(
    ("config", "job"),
    [
        (TrainConfig(input=("run",), output="a", model=ModelToTune(name="m")), "train"),
        (C3LConfig(**{**vars(EARLIER), "limit": None, "retry_failed": None}), "c3l"),
    ],
    ids=["train", "c3l"],
)
def test_settings_of_other_jobs_are_read_too(tmp_path: Path, config: Any, job: str) -> None:
    address = write_report(tmp_path / "run.json", config, job)
    read = parse_flags(type(config), ["--config", address, "--output", "b"], f"jobs.{job}")
    kept = {"model", "input", "optim", "training", "top"} & {*vars(config)}
    assert read.output == "b"
    assert {name: vars(read)[name] for name in kept} == {name: vars(config)[name] for name in kept}


def test_a_plan_takes_the_settings_of_a_generation(tmp_path: Path) -> None:
    address = write_report(tmp_path / "run.json", EARLIER, "generate")
    flags = ["--config", address, "--output", "second", "--sample", "4"]
    read = parse_flags(PlanConfig, flags, "python -m jobs.plan")
    assert (read.model, read.answers, read.limit) == (EARLIER.model, 3, None)
    assert (read.output, read.sample, read.pools) == ("second", 4, Pools())
    assert "of an earlier run of jobs.generate: all" in describe_flag(PlanConfig, "c3l-ray plan")
    address = write_report(tmp_path / "run.json", EARLIER, "score")
    with pytest.raises(PreflightError, match=r"of jobs\.score, and this .* of jobs\.generate"):
        parse_flags(PlanConfig, flags, "python -m jobs.plan")
    # A plan has no run without scores: what is refused names the file that asks for it.
    write_report(tmp_path / "run.json", EARLIER, "generate", score=False)
    with pytest.raises(PreflightError, match=r"--config .*run\.json: --no-score: a plan measures"):
        parse_flags(PlanConfig, flags, "python -m jobs.plan")


def test_the_help_of_the_flag_names_only_flags_of_its_job() -> None:
    help_text = " ".join(describe_flag(TrainConfig, "python -m jobs.train").split())
    assert "of this job: all but its output. What" in help_text
    help_text = " ".join(describe_flag(ScoreConfig, "python -m jobs.score").split())
    assert "all but its output, its pools, --limit and --retry-failed. What" in help_text


def test_a_run_that_is_wrong_is_refused(tmp_path: Path) -> None:
    def refuse(content: str, *flags: str) -> str:
        path = tmp_path / "run.json"
        path.write_text(content)
        with pytest.raises(PreflightError) as refused:
            parse_flags(
                GenerateConfig,
                ["--config", str(path), *(flags or ("--output", "second"))],
                "python -m jobs.generate",
            )
        return str(refused.value)

    def refuse_settings(job: str = "generate", **changes: Any) -> str:
        return refuse(
            Path(write_report(tmp_path / "run.json", EARLIER, job, **changes)).read_text()
        )

    assert "cannot be read as JSON" in refuse("{")
    assert "is no run.json with the settings of a run" in refuse("[]")
    assert "is of jobs.score, and this command takes the settings of jobs.generate" in (
        refuse_settings("score")
    )
    assert "method: Input should be 'c3l' or 'vigc'" in refuse_settings(method="other")
    unknown = refuse_settings(model={"name": "llava", "colour": "red"})
    assert "has the setting model.colour, which version 0.4.0 knew and this one" in unknown
    assert "has the setting shade" in refuse_settings(shade=1)
    assert "name the new run too, with --output" in refuse("{}", "--answers", "3")
    with pytest.raises(PreflightError, match="no such file"):
        parse_flags(GenerateConfig, ["--config", "/nowhere", "--output", "o"], "jobs.generate")
    with pytest.raises(PreflightError, match=r"--config: name the run\.json of an earlier run"):
        parse_flags(GenerateConfig, ["--output", "o", "--config"], "jobs.generate")


def test_jobs_whose_run_json_has_their_settings_take_them() -> None:
    assert all(
        map(takes_earlier_settings, (GenerateConfig, AnswerConfig, ScoreConfig, TrainConfig))
    )
    assert not takes_earlier_settings(SelectConfig)
    with pytest.raises(SystemExit):
        parse_flags(SelectConfig, ["--input", "a", "--output", "b", "--config", "c"], "jobs.select")
