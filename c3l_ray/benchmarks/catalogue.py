"""The benchmarks that are known: how each is read, asked and measured."""

from collections.abc import Callable
from dataclasses import dataclass

from c3l_ray.benchmark_config import BenchmarkName
from c3l_ray.benchmarks import mmbench, mme, options, pope, scienceqa, seed_bench
from c3l_ray.benchmarks.answers import Verdict
from c3l_ray.benchmarks.choices import read_choice
from c3l_ray.benchmarks.metrics import ACCURACY, ITEM_ACCURACY, PRESENCE_METRICS, Metric
from c3l_ray.benchmarks.questions import BenchmarkData, BenchmarkQuestion
from c3l_ray.benchmarks.scores import Halves
from c3l_ray.benchmarks.verdicts import read_as_mme, read_as_pope, read_yes_or_no
from c3l_ray.storage import Location


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark.

    Attributes:
        read_questions: reads its official files.
        source: the paper.
        read_verdict: what an answer says.
        metrics: its figures.
        suffix: after each question, on a line of its own; empty for none.
        suffix_source: who asks so.
        read_officially: what an answer says to the official script, where that reads otherwise.
        halves: by name, the groups whose scores are added up; None where there are no scores.
    """

    read_questions: Callable[[Location], BenchmarkData]
    source: str
    read_verdict: Verdict
    metrics: tuple[Metric, ...]
    suffix: str = ""
    suffix_source: str = "the official questions as they are"
    read_officially: Verdict | None = None
    halves: Halves | None = None


def _read_presence(answer: str | None, _: BenchmarkQuestion) -> str | None:
    return read_yes_or_no(answer)


def _read_letter(answer: str | None, question: BenchmarkQuestion) -> str | None:
    return read_choice(answer, question.options)


CATALOGUE: dict[BenchmarkName, Benchmark] = {
    "pope": Benchmark(
        read_questions=pope.read_questions,
        source="POPE, arXiv 2305.10355",
        read_verdict=_read_presence,
        metrics=PRESENCE_METRICS,
        read_officially=lambda answer, _: read_as_pope(answer),
    ),
    "mme": Benchmark(
        read_questions=mme.read_questions,
        source="MME, arXiv 2306.13394",
        read_verdict=_read_presence,
        metrics=(ACCURACY, ITEM_ACCURACY),
        read_officially=lambda answer, _: read_as_mme(answer),
        halves=mme.HALVES,
    ),
    "mmbench": Benchmark(
        read_questions=mmbench.read_questions,
        source="MMBench, arXiv 2307.06281",
        read_verdict=_read_letter,
        metrics=(ITEM_ACCURACY, ACCURACY),
        suffix=options.SUFFIX,
        suffix_source=options.SUFFIX_SOURCE,
    ),
    "scienceqa": Benchmark(
        read_questions=scienceqa.read_questions,
        source="ScienceQA, arXiv 2209.09513",
        read_verdict=_read_letter,
        metrics=(ACCURACY,),
        suffix=options.SUFFIX,
        suffix_source=options.SUFFIX_SOURCE,
    ),
    "seed-bench": Benchmark(
        read_questions=seed_bench.read_questions,
        source="SEED-Bench, arXiv 2307.16125",
        read_verdict=_read_letter,
        metrics=(ACCURACY,),
        suffix=options.SUFFIX,
        suffix_source=options.SUFFIX_SOURCE,
    ),
}
