"""What --help shows of every job, and what it costs."""

import ast
import dataclasses
import importlib
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from c3l_ray.answer_config import AnswerConfig
from c3l_ray.benchmark_config import BenchmarkConfig
from c3l_ray.config import GenerateConfig, ScoreConfig
from c3l_ray.flags import list_required
from c3l_ray.select_config import SelectConfig
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.workflows.c3l_config import C3LConfig
from c3l_ray.workflows.plan import PlanConfig
from jobs.cli import JOBS
from jobs.demo import DemoConfig
from jobs.evaluate import CorrectionsConfig, MakePopeConfig, RoundsConfig, WorldConfig
from jobs.failed import FailedConfig
from jobs.report import ReportConfig
from jobs.status import StatusConfig
from tests.jobs.commands import ROOT

CONFIGS: tuple[type, ...] = (
    *(GenerateConfig, ScoreConfig, AnswerConfig, SelectConfig, TrainConfig, C3LConfig),
    *(PlanConfig, ReportConfig, StatusConfig, FailedConfig, DemoConfig),
    *(BenchmarkConfig, MakePopeConfig, CorrectionsConfig, RoundsConfig, WorldConfig),
)
EVALUATIONS = ("benchmark", "make-pope", "rounds", "corrections", "world")
MAX_COLUMNS = 100
TERMINAL_COLUMNS = 80
HEAVY = ("torch", "ray", "vllm", "transformers", "open_clip", "datasets", "scipy")
SHOW_HELP = """
import importlib, sys
sys.argv = ["job", "--help"]
try:
    importlib.import_module("jobs.{job}").run_command()
finally:
    print(*({heavy} & sys.modules.keys()), file=sys.stderr)
"""


def find_concerns(config: type) -> set[type]:
    """A dataclass, and those that its fields are of, however deep."""
    concerns = {config}
    for hint in typing.get_type_hints(config).values():
        if dataclasses.is_dataclass(hint):
            concerns |= find_concerns(typing.cast(type, hint))
    return concerns


CONCERNS = sorted(
    {concern for config in CONFIGS for concern in find_concerns(config)},
    key=lambda concern: concern.__name__,
)


def find_help_texts(concern: type) -> Iterator[tuple[str, str]]:
    """The fields that a dataclass itself declares, and the docstring of each, perhaps empty."""
    (definition,) = ast.parse(inspect.getsource(concern)).body
    assert isinstance(definition, ast.ClassDef)
    for node, following in zip(definition.body, [*definition.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            yield node.target.id, str(following.value.value) if is_text else ""  # type: ignore[union-attr]


@pytest.mark.parametrize("concern", CONCERNS)
def test_every_flag_is_explained_in_one_line_that_is_a_sentence(concern: type) -> None:
    hints: dict[str, Any] = typing.get_type_hints(concern)
    for name, text in find_help_texts(concern):
        if dataclasses.is_dataclass(hints[name]):
            assert inspect.getdoc(hints[name]), name
            continue
        assert text, f"{name} has no help text"
        assert "\n" not in text and len(text) <= MAX_COLUMNS, f"{name}: {text}"
        assert text[0].isupper(), f"{name}: {text}"
        assert text.endswith("."), f"{name}: {text}"


@pytest.mark.parametrize("config", CONFIGS)
def test_required_flags_are_shown_before_the_others(config: Any) -> None:
    names = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(config)]
    required = [name for name in list_required(config) if "." not in name]
    assert sorted(names[: len(required)]) == sorted(required)


def test_common_flags_are_shown_before_rare_ones() -> None:
    for config, common in (
        (GenerateConfig, {"turns_per_image", "method", "answers", "limit"}),
        (C3LConfig, {"objective", "answers", "top", "by", "rounds"}),
        (BenchmarkConfig, {"image_root", "against"}),
        (AnswerConfig, {"answers"}),
        (PlanConfig, {"sample", "max_hours", "max_price"}),
    ):
        names = [field.name for field in dataclasses.fields(config)]
        assert max(map(names.index, common)) < names.index("stall_timeout")


@pytest.mark.parametrize("job", JOBS)
def test_help_teaches_and_imports_nothing_heavy(job: str) -> None:
    help_ = subprocess.run(
        [sys.executable, "-c", SHOW_HELP.format(job=job, heavy={*HEAVY})],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert help_.returncode == 0, help_.stderr
    assert help_.stderr.strip() == ""
    assert f"python -m jobs.{job}" in help_.stdout
    if job == "evaluate":
        assert all(name in help_.stdout for name in EVALUATIONS)
        *first, last = list_required(BenchmarkConfig)
        prose = " ".join(help_.stdout.split())
        assert f"It requires {', '.join(first)} and {last}." in prose
    else:
        assert "(default: " in help_.stdout
    if job in ("generate", "answer", "plan", "c3l", "train"):
        assert "\nRequired: --input, --output, --model.name.\n" in help_.stdout
    if job == "train":
        assert "--labels.by" in help_.stdout and "(default: i2c)" in help_.stdout
    assert "(default: None)" not in help_.stdout


@pytest.mark.parametrize("job", JOBS)
def test_the_text_above_the_flags_fits_a_terminal(job: str) -> None:
    text = importlib.import_module(f"jobs.{job}").__doc__ or ""
    prose = [line for line in text.splitlines() if not line.startswith("    ")]
    assert text and max(map(len, prose)) <= TERMINAL_COLUMNS
