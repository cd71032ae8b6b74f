"""What a user can set of jobs.evaluate benchmark: flags as those of `config`.

A benchmark is answered as `jobs.answer` answers, one greedy answer to a question, and nothing is
scored: what belongs to the scorer, to sampling and to other inputs is no flag.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from c3l_ray.answer_config import AnswerConfig, AnswerSampling
from c3l_ray.flags import NOT_A_FLAG, optional, shown_first
from c3l_ray.inputs.layout import TurnsLayout
from c3l_ray.model_config import ClipModel, Pools, ScorerModel
from c3l_ray.ranges import Range

BenchmarkName = Literal["pope", "mme", "mmbench", "scienceqa", "seed-bench"]


@dataclass(frozen=True, kw_only=True)
class GreedyDecoding(AnswerSampling):
    """How answers are decoded: the likeliest token each time."""

    temperature: Annotated[float, NOT_A_FLAG] = 0.0
    """Always 0."""
    top_p: Annotated[float, NOT_A_FLAG] = 1.0
    """Of no effect."""
    max_tokens: Annotated[int, Range(min=1)] = 128
    """Longest answer; one that is cut there is read as far as it goes."""
    seed: Annotated[int, NOT_A_FLAG] = 0
    """Of no effect."""


@dataclass(frozen=True, kw_only=True)
class GeneratorPool(Pools):
    """How many processes answer, and what each is given."""

    generator_gpus: Annotated[float | None, Range(min=0), optional("FLOAT")] = None
    """GPUs of each generator (default: --model.tensor-parallel)."""
    scorers: Annotated[int | None, NOT_A_FLAG] = None
    """Nothing is scored."""
    scorer_gpus: Annotated[float | None, NOT_A_FLAG] = None
    """Nothing is scored."""


@shown_first("benchmark", "data", "output", "image_root", "against", "suffix")
@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(AnswerConfig):
    """Ask a model a benchmark's questions, and measure its answers."""

    benchmark: BenchmarkName
    """Benchmark whose questions are asked."""
    data: str
    """Official file of the benchmark, or the folder of its files (listed above), local or s3://."""
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
    input: Annotated[tuple[str, ...], NOT_A_FLAG] = ()
    """The samples that the job makes of --data."""
    layout: Annotated[TurnsLayout, NOT_A_FLAG] = field(default_factory=TurnsLayout)
    scorer: Annotated[ScorerModel, NOT_A_FLAG] = field(default_factory=ScorerModel)
    clip: Annotated[ClipModel, NOT_A_FLAG] = field(
        default_factory=lambda: ClipModel(name="none", weights=None)
    )
    answers: Annotated[int, NOT_A_FLAG] = 1
    """Always 1."""
    token_gains: Annotated[bool, NOT_A_FLAG] = False
    """Nothing is scored."""

    @property
    def is_scored(self) -> bool:
        return False
