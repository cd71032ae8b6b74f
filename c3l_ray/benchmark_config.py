"""What a user can set of jobs.evaluate benchmark: flags as those of `config`.

A benchmark is answered as `jobs.answer` answers, one greedy answer to a question, and nothing is
scored: what belongs to the scorer, to sampling and to other inputs is no flag.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from c3l_ray.answer_config import AnswerConfig, AnswerSampling
from c3l_ray.config import ClipModel, Pools, ScorerModel
from c3l_ray.flags import optional
from c3l_ray.inputs.layout import TurnsLayout
from c3l_ray.ranges import Range

BenchmarkName = Literal["pope", "mme", "mmbench", "scienceqa", "seed-bench"]


@dataclass(frozen=True, kw_only=True)
class GreedyDecoding(AnswerSampling):
    """How answers are decoded: the likeliest token each time."""

    temperature: tyro.conf.Suppress[float] = 0.0
    """Always 0."""
    top_p: tyro.conf.Suppress[float] = 1.0
    """Of no effect."""
    max_tokens: Annotated[int, Range(min=1)] = 128
    """Longest answer; one that is cut there is read as far as it goes."""
    seed: tyro.conf.Suppress[int] = 0
    """Of no effect."""


@dataclass(frozen=True, kw_only=True)
class GeneratorPool(Pools):
    """How many processes answer, and what each is given."""

    generator_gpus: Annotated[float | None, Range(min=0), optional("FLOAT")] = None
    """GPUs of each (default: --model.tensor-parallel)."""
    scorers: tyro.conf.Suppress[int | None] = None
    """Nothing is scored."""
    scorer_gpus: tyro.conf.Suppress[float | None] = None
    """Nothing is scored."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(AnswerConfig):
    """Ask a model a benchmark's questions, and measure its answers."""

    benchmark: BenchmarkName
    """The benchmark."""
    data: str
    """Its official file, or the folder of them, local or s3://."""
    image_root: Annotated[str | None, optional("STR")] = None
    """Folder that the images' names are relative to (default: where the files of --data lie)."""
    output: str
    """Folder for answers and result.json, local or s3://. The same command resumes there."""
    against: Annotated[str | None, optional("OUTPUT")] = None
    """Output of the same benchmark by another model, to compare with."""
    suffix: Annotated[str | None, optional("STR")] = None
    """Text on a line after each question (default: the benchmark's own; '' for none)."""
    sampling: GreedyDecoding = field(default_factory=GreedyDecoding)
    pools: GeneratorPool = field(default_factory=GeneratorPool)
    max_failed_share: Annotated[float, Range(min=0, max=1)] = 0.05
    """Exit with status 4 when a larger share of the questions could not be asked."""
    keep_images: bool = False
    """Keep the images in the records too."""
    input: tyro.conf.Suppress[tuple[str, ...]] = ()
    """The samples that the job makes of --data."""
    layout: tyro.conf.Suppress[TurnsLayout] = field(default_factory=TurnsLayout)
    scorer: tyro.conf.Suppress[ScorerModel] = field(default_factory=ScorerModel)
    clip: tyro.conf.Suppress[ClipModel] = field(
        default_factory=lambda: ClipModel(name="none", weights=None)
    )
    answers: tyro.conf.Suppress[int] = 1
    """Always 1."""
    token_gains: tyro.conf.Suppress[bool] = False
    """Nothing is scored."""
