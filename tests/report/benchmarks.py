"""Outputs of benchmarks to report on."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from c3l_ray import schema
from c3l_ray.benchmark_config import BenchmarkName
from c3l_ray.benchmarks.answers import BenchmarkAnswer, write_answers
from c3l_ray.benchmarks.catalogue import CATALOGUE
from c3l_ray.benchmarks.comparison import compare_answers
from c3l_ray.benchmarks.result import (
    BenchmarkResult,
    describe_answers,
    describe_comparison,
    measure_answers,
)
from c3l_ray.runs.folder import RunFolder
from tests.benchmarks.builders import make_answer
from tests.runs.tables import make_report


def make_answers(verdicts: Sequence[str | None], **question: Any) -> list[BenchmarkAnswer]:
    """Answers to questions about an image each, whose labels are yes and no in turn."""
    group = question.pop("group", "random")
    return [
        make_answer(
            f"{group} {number}",
            ("yes", "no")[number % 2],
            verdict,
            **{"group": group, "image": f"{number}.jpg", **question},
        )
        for number, verdict in enumerate(verdicts)
    ]


def write_benchmark(
    path: Path,
    answers: Sequence[BenchmarkAnswer],
    *,
    name: BenchmarkName = "pope",
    against: Sequence[BenchmarkAnswer] | None = None,
    has_result: bool = True,
    **report: Any,
) -> Path:
    """The output of a benchmark with these answers, compared with those of another model."""
    folder = RunFolder.open(str(path))
    identity = {"schema": schema.VERSION, "benchmark": name, "suffix": "", "max_tokens": 128}
    identity |= report.pop("identity", {})
    folder.write_json("run.json", make_report(job="benchmark", identity=identity, **report))
    benchmark = CATALOGUE[name]
    figures, official = measure_answers(answers, benchmark)
    result = BenchmarkResult(
        benchmark=name,
        source=benchmark.source,
        model="llava",
        origin="o",
        questions_digest="0" * 16,
        suffix="",
        suffix_source=benchmark.suffix_source,
        **describe_answers(answers),
        figures=figures,
        official=official,
    )
    if against is not None:
        other = {"model": "smaller", "origin": "p", "suffix": "Be brief."}
        groups = compare_answers(answers, against, benchmark.metrics)
        described = describe_comparison(other, "runs/smaller", groups)
        result = dataclasses.replace(result, against=described)
    if has_result:
        write_answers(folder, "o", answers)
        folder.write_json("result.json", dataclasses.asdict(result))
    return path
