"""result.json of a benchmark: figures by group, what could not be read or asked, a comparison."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from c3l_ray import __version__
from c3l_ray.benchmarks.answers import NOT_ASKED, BenchmarkAnswer, count_failures
from c3l_ray.benchmarks.catalogue import Benchmark
from c3l_ray.benchmarks.comparison import GroupComparison
from c3l_ray.benchmarks.metrics import group_items, measure_groups
from c3l_ray.benchmarks.scores import Figures, add_scores
from c3l_ray.errors import PreflightError
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.state import now

RESULT = "result.json"
NUM_EXAMPLES = 3  # answers that cannot be read


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """What result.json says.

    Attributes:
        job, version: "benchmark"; version of c3l-ray.
        benchmark: by its name.
        source: the paper.
        model: as the command named it.
        origin: of the run.
        questions_digest: of the questions, their images' names and labels.
        suffix: after each question; empty for none.
        suffix_source: who asks so.
        questions: of the benchmark.
        not_asked: of these, left for later by --limit.
        failed: questions that could not be asked, by the first word of why.
        failure_examples: for each of these, one question and why.
        answer_status: answers by status, as of a turn's.
        unreadable: answers that say none of what the labels say; no right ones.
        unreadable_examples: some of them.
        figures: by group.
        official: the same as the benchmark's own script reads the answers; null where it has none.
        against: the comparison with another model; null without.
        finished: when.
    """

    job: str = "benchmark"
    version: str = __version__
    benchmark: str
    source: str
    model: str
    origin: str
    questions_digest: str
    suffix: str
    suffix_source: str
    questions: int
    not_asked: int
    failed: dict[str, int]
    failure_examples: dict[str, str]
    answer_status: dict[str, int]
    unreadable: int
    unreadable_examples: list[str]
    figures: Figures
    official: Figures | None = None
    against: dict[str, Any] | None = None
    finished: str = field(default_factory=now)


def measure_answers(
    answers: Sequence[BenchmarkAnswer], benchmark: Benchmark
) -> tuple[Figures, Figures | None]:
    """The figures of a benchmark, as answers are read here, and as its own script reads them."""
    figures = _measure(answers, benchmark)
    if benchmark.read_officially is None:
        return figures, None
    read = benchmark.read_officially
    officially = [
        dataclasses.replace(answer, verdict=read(answer.answer, answer.question))
        if answer.is_measured
        else answer
        for answer in answers
    ]
    return figures, _measure(officially, benchmark)


def _measure(answers: Sequence[BenchmarkAnswer], benchmark: Benchmark) -> Figures:
    figures = measure_groups(group_items(answers), benchmark.metrics)
    return figures if benchmark.halves is None else add_scores(figures, benchmark.halves)


def describe_answers(answers: Sequence[BenchmarkAnswer]) -> dict[str, Any]:
    """What result.json says of questions and answers beside the figures."""
    failed, examples = count_failures(answers)
    measured = [answer for answer in answers if answer.is_measured]
    unreadable = [answer for answer in measured if answer.verdict is None]
    status: dict[str, int] = {}
    for answer in measured:
        status[answer.status] = status.get(answer.status, 0) + 1
    return {
        "questions": len(answers),
        "not_asked": sum(answer.status == NOT_ASKED for answer in answers),
        "failed": failed,
        "failure_examples": examples,
        "answer_status": status,
        "unreadable": len(unreadable),
        "unreadable_examples": [
            f"{answer.question.key}: {answer.answer}" for answer in unreadable[:NUM_EXAMPLES]
        ],
    }


def describe_comparison(
    other: Mapping[str, Any], path: str, groups: Mapping[str, GroupComparison]
) -> dict[str, Any]:
    """What result.json says of a comparison.

    Args:
        other: result.json of the other model.
        path: of its folder.
        groups: what differs, by group.
    """
    return {
        "output": path,
        **{name: other[name] for name in ("model", "origin", "suffix")},
        "groups": {name: dataclasses.asdict(group) for name, group in groups.items()},
    }


def read_result(folder: RunFolder) -> dict[str, Any]:
    """result.json of a run that has one.

    Raises:
        PreflightError: there is none.
    """
    try:
        content = folder.read_json(RESULT)
    except (OSError, ValueError) as error:
        raise PreflightError(f"{folder.flag} {folder.path}: cannot be read: {error}") from error
    names = {field.name for field in dataclasses.fields(BenchmarkResult)}
    if content is None:
        raise PreflightError(
            f"{folder.flag} {folder.path}: holds no {RESULT}; name the output of a finished "
            "jobs.evaluate benchmark"
        )
    if not isinstance(content, dict) or not names <= {*content}:
        raise PreflightError(
            f"{folder.flag} {folder.path}: its {RESULT} is not that of a benchmark"
        )
    return content


def check_same_questions(
    other: Mapping[str, Any], folder: RunFolder, name: str, digest: str
) -> None:
    """Refuses to compare answers to other questions.

    Args:
        other: result.json of the other model.
        folder: of it.
        name: of the benchmark.
        digest: of the questions.

    Raises:
        PreflightError: they are of another benchmark, or of other files of it.
    """
    if other["benchmark"] != name:
        raise PreflightError(
            f"{folder.flag} {folder.path}: answers {other['benchmark']}, and this command {name}"
        )
    if other["questions_digest"] != digest:
        raise PreflightError(
            f"{folder.flag} {folder.path}: answers other questions of {name} than --data has "
            f"(digest {other['questions_digest']}, not {digest})"
        )
