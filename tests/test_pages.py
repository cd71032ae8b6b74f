"""The pages and the code say the same: flags, tables, links, and the commands that pages show."""

import ast
import dataclasses
import json
import re
import shlex
import subprocess
import sys
import typing
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import tyro

from c3l_ray import errors, model_config, schema, stopping
from c3l_ray.answer_config import AnswerConfig
from c3l_ray.benchmark_config import BenchmarkConfig, BenchmarkName
from c3l_ray.benchmarks.answers import SCHEMA as ANSWERS_SCHEMA
from c3l_ray.benchmarks.result import BenchmarkResult
from c3l_ray.config import GenerateConfig, ScoreConfig
from c3l_ray.dataset.columns import CONVERSATION_OF_TURN, PREFERENCE
from c3l_ray.dataset.preference import NoPair
from c3l_ray.dataset.report import SelectionReport
from c3l_ray.methods import vigc
from c3l_ray.methods.scores import SCORE_NAMES, SCORES
from c3l_ray.planning.cost import Plan
from c3l_ray.runs.commit import Manifest
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.cures import CURES_OF_IMAGES, CURES_OF_TURNS
from c3l_ray.runs.report import RecordsReport
from c3l_ray.runs.state import RunState
from c3l_ray.select_config import SelectConfig
from c3l_ray.train.objectives import OBJECTIVES, READABLE
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.workflows.c3l_config import C3LConfig
from c3l_ray.workflows.c3l_report import C3LReport
from c3l_ray.workflows.plan import PlanConfig
from c3l_ray.workflows.training_report import TrainingReport
from jobs import settings_taken
from jobs.cli import JOBS
from jobs.demo import DemoConfig
from jobs.evaluate import EvaluateConfig, MakePopeConfig, WorldConfig
from jobs.failed import FailedConfig
from jobs.report import ReportConfig
from jobs.status import StatusConfig
from tests.pages import ROOT, Command, Page, read_pages

PAGES = read_pages()
README, CHANGELOG = PAGES["README.md"], PAGES["CHANGELOG.md"]
JOBS_PAGE = PAGES["jobs/README.md"]
BENCHMARKS_PAGE = PAGES["c3l_ray/benchmarks/README.md"]
METHODS_PAGE, TRAIN_PAGE = PAGES["c3l_ray/methods/README.md"], PAGES["c3l_ray/train/README.md"]
MAX_README_BYTES = 9_000

CONFIGS: dict[str, type] = {
    "plan": PlanConfig,
    "generate": GenerateConfig,
    "score": ScoreConfig,
    "answer": AnswerConfig,
    "select": SelectConfig,
    "train": TrainConfig,
    "c3l": C3LConfig,
    "status": StatusConfig,
    "failed": FailedConfig,
    "demo": DemoConfig,
    "report": ReportConfig,
}
FLAGS_OF_OTHERS = {
    *("--help", "--quick", "--runtime-env-json", "--hypothesis-seed"),
    *("--seeds", "--scale", "--minutes", "--rows", "--shards", settings_taken.FLAG),
}
"""Flags that stand alone in prose and are of every job, of benches, of Ray, pytest or evidence."""
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z0-9]")


def list_flags(config_class: type, prefix: str = "") -> Iterator[str]:
    """Every flag of a job, and the beginnings that groups of its flags share."""
    types = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        name = field.name.replace("_", "-")
        if dataclasses.is_dataclass(field_type := types[field.name]):
            yield f"--{prefix}{name}"
            yield from list_flags(typing.cast(type, field_type), f"{prefix}{name}.")
        else:
            yield f"--{prefix}{name}"
            if field_type is bool:
                yield f"--{prefix}no-{name}"


FLAGS = {job: {*list_flags(config_class), "--help"} for job, config_class in CONFIGS.items()}
FLAGS["evaluate"] = {"--help"}.union(
    *map(list_flags, (WorldConfig, BenchmarkConfig, MakePopeConfig))
)
ALL_FLAGS = FLAGS_OF_OTHERS.union(*FLAGS.values())

_COLUMNS_BUT_SCORES = [name for name in CONVERSATION_OF_TURN.names if name not in SCORE_NAMES]

COMMANDS = [command for page in PAGES.values() for command in page.commands()]


def known_flags(command: Command) -> set[str]:
    """The flags that a command, or a piece of code in prose, may have."""
    if command.job:
        return FLAGS[command.job]
    if command.module:
        module = ROOT / command.module.replace(".", "/")
        source = module / "__main__.py" if module.is_dir() else module.with_suffix(".py")
        return set(FLAG.findall(source.read_text()))
    return ALL_FLAGS


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.module], ids=str)
def test_a_command_has_flags_of_its_job_or_module(command: Command) -> None:
    assert set(FLAG.findall(" ".join(command.arguments))) <= known_flags(command)


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if command.job and command.is_whole], ids=str
)
def test_a_whole_command_is_parsed(command: Command) -> None:
    config_class: Any = EvaluateConfig if command.job == "evaluate" else CONFIGS[command.job or ""]
    tyro.cli(config_class, args=command.arguments)


@pytest.mark.parametrize("page", PAGES.values(), ids=str)
def test_a_flag_in_prose_is_one_of_its_command_or_of_some_job(page: Page) -> None:
    prose = page.prose_without_column("0.1.0")
    for code in re.findall(r"`([^`]+)`", prose):
        assert set(FLAG.findall(code)) <= known_flags(Command(page, tuple(code.split()))), code
    assert not FLAG.findall(re.sub(r"`[^`]+`", "", prose)), "a flag that is not marked as code"


def test_a_renamed_flag_is_gone_and_its_new_name_is_there() -> None:
    for jobs, before, now in CHANGELOG.table("Changed: flags"):
        (old_flag,), (new_flag,) = FLAG.findall(before), FLAG.findall(now)
        for job in jobs.split(", "):
            assert old_flag not in FLAGS[job] and new_flag in FLAGS[job], (job, old_flag, new_flag)


@pytest.mark.parametrize(
    ("heading", "number", "names"),
    [
        ("Records", 0, schema.RECORDS.names),
        ("Records", 1, [field.name for field in schema.TURN]),
        ("Records", 2, [field.name for field in schema.ALTERNATIVE]),
        ("Records", 3, [field.name for field in schema.CORRECTION]),
        ("Datasets", 0, [*_COLUMNS_BUT_SCORES, "image_logprob"]),
        ("Preference pairs", 0, PREFERENCE.names),
        ("Preference pairs", 1, list(get_args(NoPair))),
        ("selection.json", 0, [field.name for field in dataclasses.fields(SelectionReport)]),
        ("Manifests", 0, [field.name for field in dataclasses.fields(Manifest)]),
        (
            "run.json of generate, score and answer",
            0,
            [field.name for field in dataclasses.fields(RecordsReport)],
        ),
        ("Where a run stands", 0, [field.name for field in dataclasses.fields(RunState)]),
        ("run.json of train", 0, [field.name for field in dataclasses.fields(TrainingReport)]),
        ("Plan", 0, [field.name for field in dataclasses.fields(Plan)]),
        ("run.json of c3l", 0, [field.name for field in dataclasses.fields(C3LReport)]),
    ],
)
def test_a_table_has_every_name_of_a_structure_and_no_other(
    heading: str, number: int, names: list[str]
) -> None:
    rows = JOBS_PAGE.table(heading, number)
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(documented) == sorted(names)


@pytest.mark.parametrize(
    ("heading", "number", "names"),
    [
        ("Output", 1, ANSWERS_SCHEMA.names),
        ("Output", 2, [field.name for field in dataclasses.fields(BenchmarkResult)]),
    ],
)
def test_a_table_of_benchmarks_has_every_name_and_no_other(
    heading: str, number: int, names: list[str]
) -> None:
    rows = BENCHMARKS_PAGE.table(heading, number)
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(documented) == sorted(names)


def test_the_counts_of_a_manifest_are_listed() -> None:
    (content,) = (row[1] for row in JOBS_PAGE.table("Manifests") if row[0] == "`counts`")
    names = {field.name for field in dataclasses.fields(Counts)}
    assert {*re.findall(r"`(\w+)`", content)} == names


def test_the_table_of_statuses_has_every_status_and_every_word_of_an_error() -> None:
    documented = [(row[1], row[0].strip("`")) for row in JOBS_PAGE.table("Statuses")]
    expected = {
        *(("image", status) for status in get_args(schema.RecordStatus)),
        *(("turn", status) for status in get_args(schema.TurnStatus)),
        *(("error", word) for word in find_error_words()),
    }
    assert len(documented) == len(expected) and set(documented) == expected


def test_the_cures_of_the_table_of_statuses_are_those_of_the_code() -> None:
    for of, cures in (("error", CURES_OF_IMAGES), ("turn", CURES_OF_TURNS)):
        rows = [row for row in JOBS_PAGE.table("Statuses") if row[1] == of and row[3]]
        assert {row[0].strip("`"): row[3].replace("`", "") for row in rows} == cures


def find_error_words() -> set[str]:
    """The words that errors of rows begin with, where the sources write them."""
    package = ROOT / "c3l_ray"
    files = [package / f"{name}.py" for name in ("images", "grey_depths", "png_chunks")]
    files += [*(package / "inputs").rglob("*.py")]
    files += (package / "inference" / f"turn_{name}.py" for name in ("generator", "scorer"))
    words = {schema.FATAL, schema.EXCEPTION}
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        match node:
            case ast.Constant(value=str() as text):
                words.update(re.findall(r"^([a-z_]+): ", text))
            case ast.Call(func=ast.Name(id="UnusableImage"), args=[ast.Constant(value=word), *_]):
                words.add(str(word))
    return words


def test_the_table_of_measurements_has_every_measurement() -> None:
    documented = {
        name
        for row in JOBS_PAGE.table("run.json of train", 1)
        for name in re.findall(r"`(\w+)`", row[0])
    }
    parts = {"loss", *(part for spec in OBJECTIVES.values() for part in spec.loss_parts)}
    metrics = ast.parse((ROOT / "c3l_ray/train/learning/metrics.py").read_text())
    lines = [
        {key.value for key in node.keys if isinstance(key, ast.Constant)}
        for node in ast.walk(metrics)
        if isinstance(node, ast.Dict)
    ]
    (line,) = (names for names in lines if "grad_norm" in names)
    assert documented == {*parts, *line, "held_out_loss", READABLE}


def test_the_table_of_scores_is_that_of_the_code() -> None:
    assert METHODS_PAGE.table("Scores") == [
        [f"`{score.name}`", score.definition, score.caveat, score.source] for score in SCORES
    ]


@pytest.mark.parametrize(
    ("page", "heading", "names"),
    [
        (METHODS_PAGE, "Outcomes", vigc.OUTCOMES),
        (METHODS_PAGE, '"Without the image" is a choice', get_args(model_config.Baseline)),
        (TRAIN_PAGE, "Objectives", tuple(OBJECTIVES)),
        (JOBS_PAGE, "Jobs", tuple(f"jobs.{job}" for job in JOBS)),
        (BENCHMARKS_PAGE, "Benchmarks and files", get_args(BenchmarkName)),
    ],
    ids=["outcomes", "baselines", "objectives", "jobs", "benchmarks"],
)
def test_a_table_has_every_choice_and_no_other(
    page: Page, heading: str, names: tuple[str, ...]
) -> None:
    documented = [name for row in page.table(heading) for name in re.findall(r"`(\S+)`", row[0])]
    assert sorted(documented) == sorted(names)


@pytest.mark.parametrize(
    ("page", "heading"),
    [(README, "What you can rely on"), (JOBS_PAGE, "Exit statuses")],
    ids=["README", "jobs"],
)
def test_the_table_of_exit_statuses_has_every_status(page: Page, heading: str) -> None:
    classes: list[type[errors.C3LError]]
    classes = [errors.C3LError, *errors.C3LError.__subclasses__()]
    stopped = (errors.Stopped(number).exit_status for number in stopping.SIGNALS)
    expected = {0, *stopped, errors.TIME_UP, *(error.exit_status for error in classes)}
    assert [int(row[0]) for row in page.table(heading)] == sorted(expected)


@pytest.mark.parametrize("page", PAGES.values(), ids=str)
def test_links_lead_to_files_and_headings(page: Page) -> None:
    for target in page.links():
        address, _, anchor = target.partition("#")
        linked = (page.path.parent / address).resolve() if address else page.path
        assert linked.exists(), target
        if anchor:
            assert anchor in PAGES[str(linked.relative_to(ROOT))].anchors(), target


@pytest.mark.parametrize("page", PAGES.values(), ids=str)
def test_files_of_the_project_that_a_page_names_exist(page: Page) -> None:
    prose = page.prose_without_column("0.1.0")
    for path in re.findall(r"`((?:c3l_ray|cluster|jobs|tests|\.ci)/[a-z0-9_./-]*)`", prose):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES.values(), ids=str)
def test_python_in_pages_compiles(page: Page) -> None:
    for code in page.blocks("python"):
        compile(code, page.name, "exec")


def test_the_record_in_the_readme_is_part_of_the_example() -> None:
    (text,) = README.blocks("json")
    assert is_part_of(json.loads(text), json.loads((ROOT / "tests/record.json").read_text()))


def is_part_of(part: Any, whole: Any) -> bool:
    """Whether JSON is other JSON with some names left out."""
    if isinstance(part, dict):
        return all(is_part_of(value, whole[name]) for name, value in part.items())
    if isinstance(part, list):
        return len(part) == len(whole) and all(map(is_part_of, part, whole))
    return bool(part == whole)


def test_the_readme_is_short() -> None:
    assert README.path.stat().st_size <= MAX_README_BYTES


def test_the_readme_shows_targets_of_make() -> None:
    help_text = run_command("make", "help")
    targets = [command.words[1] for command in README.commands() if command.words[0] == "make"]
    assert {"demo", "test"} <= {*targets}
    assert all(f"make {target} " in help_text for target in targets)


@pytest.mark.parametrize("job", sorted({*re.findall(r"jobs\.([a-z0-9]+)", README.text)}))
def test_a_job_of_the_readme_describes_itself(job: str) -> None:
    help_text = run_command(sys.executable, "-m", f"jobs.{job}", "--help")
    assert f"python -m jobs.{job}" in help_text


def run_command(*words: str) -> str:
    """What a command prints; it must end well."""
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, shlex.join(words) + ended.stderr
    return ended.stdout
