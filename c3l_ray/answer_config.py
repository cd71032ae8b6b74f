"""What a user can set of jobs.answer: flags as those of `config`."""

from dataclasses import dataclass, field
from typing import Annotated

from c3l_ray.config import SAME_ANSWER, GeneratingConfig
from c3l_ray.flags import shown_first
from c3l_ray.inputs.layout import TurnsLayout
from c3l_ray.model_config import Sampling
from c3l_ray.ranges import Conflicts, Range


@dataclass(frozen=True, kw_only=True)
class AnswerSampling(Sampling):
    """How answers are drawn. Each has a seed of its own, from its image, its turn and `seed`."""

    temperature: Annotated[float, Range(min=0)] = 1.0
    """Sampling temperature; 0, for one answer only, takes the likeliest tokens."""
    max_tokens: Annotated[int, Range(min=1)] = 512
    """Longest answer; one that is cut there becomes an alternative of status truncated."""
    seed: Annotated[int, Range(min=0)] = 0
    """Seed of the requests; with another one a question gets other answers."""


@shown_first("input", "output", "answers")
@dataclass(frozen=True, kw_only=True)
class AnswerConfig(GeneratingConfig):
    """Turns in, records of the same turns with more answers to their questions out."""

    input: tuple[str, ...]
    """Files, folders or globs: LLaVA .json or .jsonl, Parquet of turns, or an earlier run."""
    layout: TurnsLayout = field(default_factory=TurnsLayout)
    sampling: AnswerSampling = field(default_factory=AnswerSampling)
    answers: Annotated[int, Range(min=1)] = 6
    """Answers to sample to each question, as alternatives of the one that it has."""

    @property
    def answer_sampling(self) -> Sampling:
        return self.sampling

    def conflicts(self) -> Conflicts:
        yield from super().conflicts()
        if self.answers > 1 and self.sampling.temperature == 0:
            yield "sampling.temperature", SAME_ANSWER
