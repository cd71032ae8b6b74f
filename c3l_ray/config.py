"""What a user can set: one frozen dataclass per concern; its docstrings are the flags' help texts.

A job's whole config is checked when it is made (`ranges.check_config`), before anything starts.
Which of its fields define a row's content is said in `identity`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from c3l_ray.errors import PreflightError
from c3l_ray.flags import NOT_A_FLAG, optional, shown_first
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.methods import c3l, vigc
from c3l_ray.methods.scores import RankedBy
from c3l_ray.methods.vigc import CorrectionRules
from c3l_ray.model_config import (
    ClipModel,
    GeneratorModel,
    Pools,
    RequiredScorerModel,
    Sampling,
    ScorerModel,
    ScorerPool,
)
from c3l_ray.no_score import find_conflicts
from c3l_ray.ranges import Conflicts, Range, check_config
from c3l_ray.stall_watch import BOOT_TIMEOUT_S, STALL_TIMEOUT_S
from c3l_ray.stopping import GRACE_S
from c3l_ray.template_date import is_day

Method = Literal["c3l", "vigc"]
ReplyFormat = Literal["auto", "text", "json"]
INSTRUCTIONS: dict[Method, dict[str, tuple[str, ...]]] = {
    "c3l": c3l.INSTRUCTIONS,
    "vigc": vigc.INSTRUCTIONS,
}
FINITE = Range(above=0, below=math.inf)


@dataclass(frozen=True, kw_only=True)
class RecordsConfig(ABC):
    """What every job takes that writes records of scored turns."""

    input: tuple[str, ...]
    """Files, folders or globs, local or s3://: WebDataset tars, Parquet, LLaVA JSON, images."""
    output: str
    """Folder for records and run.json, local or s3://. The same command resumes there."""
    layout: Layout = field(default_factory=Layout)
    scorer: ScorerModel = field(default_factory=ScorerModel)
    clip: ClipModel = field(default_factory=ClipModel)
    pools: ScorerPool = field(default_factory=ScorerPool)
    max_pixels: Annotated[int, Range(min=1)] = 1_048_576
    """Shrink larger images to this many pixels before any model sees them."""
    token_gains: bool = False
    """Store what the image adds to the log-probability of each answer token."""
    keep_images: bool = True
    """Keep the images in the records, so that the dataset needs nothing else."""
    prompt_date: Annotated[str | None, optional("YYYY-MM-DD")] = None
    """Day that chat templates which write the date are given (default: when the run began)."""
    mix_versions: bool = False
    """Go on in an output that other versions of c3l-ray, vLLM, transformers or torch began."""
    max_failed_share: Annotated[float, Range(min=0, max=1)] = 0.05
    """Exit with status 4 when a larger share of the images failed."""
    grace: Annotated[float, Range(min=0)] = GRACE_S
    """Seconds after SIGTERM or Ctrl-C in which the units under way are still committed."""
    stall_timeout: Annotated[float, Range(min=0)] = STALL_TIMEOUT_S
    """Replace a process that gives no reply and no score for these seconds; 0 waits for ever."""
    boot_timeout: Annotated[float, Range(min=0)] = BOOT_TIMEOUT_S
    """Seconds after which a process that still loads its model ends; 0 waits for ever."""
    limit: Annotated[int | None, Range(min=1), optional("INT")] = None
    """Do only the first images, for a trial; the same command without it resumes."""
    retry_failed: Annotated[tuple[str, ...] | None, optional("REASON ...")] = None
    """Do failed images of the output again: for these reasons, or for any where none is named."""
    max_hours: Annotated[float | None, FINITE, optional("FLOAT")] = None
    """Hours after which this command stops as at SIGTERM; the same command has as many again."""
    max_price: Annotated[float | None, FINITE, optional("FLOAT")] = None
    """Price at which this command stops as at SIGTERM: its hours times its GPUs, or its nodes."""
    budget_of: Literal["command", "run"] = "command"
    """Whether these hours and this price are of one command, or of all commands of the output."""
    price_per_hour: Annotated[float | None, FINITE, optional("FLOAT")] = None
    """Price of a GPU for an hour, in any currency; of a node where the job uses no GPU."""
    verbose: bool = False
    """Show Ray's own progress bars and messages."""

    def conflicts(self) -> Conflicts:
        if self.retry_failed is not None and self.scorer.baseline == "mismatched":
            yield (
                "retry_failed",
                "--scorer.baseline mismatched compares an image with others of its unit, which are "
                "not read again",
            )
        if self.max_price is not None and self.price_per_hour is None:
            yield "max_price", "needs the price of an hour, --price-per-hour"

    def __post_init__(self) -> None:
        check_config(self)
        if self.prompt_date is not None and not is_day(self.prompt_date):
            raise PreflightError(f"--prompt-date {self.prompt_date}: must be a day as YYYY-MM-DD")

    @property
    @abstractmethod
    def scorer_name(self) -> str: ...

    @property
    def is_scored(self) -> bool:
        """Whether answers are scored, which takes the scorer."""
        return True

    @property
    def kept_by(self) -> RankedBy | None:
        """The score by which the best of a question's answers is kept; None keeps its own."""
        return None


@dataclass(frozen=True, kw_only=True)
class NeedsGenerator:
    """What comes first in the --help of jobs that generate, since it is required."""

    model: GeneratorModel


@dataclass(frozen=True, kw_only=True)
class GeneratingConfig(RecordsConfig, NeedsGenerator):
    """What every job takes that asks a model about images, beside the scorer."""

    sampling: Sampling = field(default_factory=Sampling)
    pools: Pools = field(default_factory=Pools)
    answers: Annotated[int, Range(min=0)] = 0
    """More answers to sample to each question, once it is posed, as its alternatives."""

    @property
    def scorer_name(self) -> str:
        return self.scorer.name or self.model.name

    @property
    @abstractmethod
    def answer_sampling(self) -> Sampling:
        """How those answers are drawn."""


@shown_first(
    "input",
    "output",
    "turns_per_image",
    "method",
    "correct",
    "answers",
    "instructions",
    "score",
    "limit",
    "keep_images",
    "max_pixels",
)
@dataclass(frozen=True, kw_only=True)
class GenerateConfig(GeneratingConfig):
    """Shards of images in, records of scored turns out."""

    correction: CorrectionRules = field(default_factory=CorrectionRules)
    method: Method = "c3l"
    """C3L's turns, of five kinds, or VIGC's: of three kinds, and every answer is corrected."""
    correct: bool = False
    """Correct the answers of C3L's turns as VIGC does its own."""
    reply_format: ReplyFormat = "auto"
    """Ask for labelled text, or for JSON that the engine enforces; auto decides by model family."""
    instructions: Annotated[str | None, optional("FILE")] = None
    """JSON of what to ask for, wordings by kind, such as {"detail": ["..."]} (default: ours)."""
    wordings: Annotated[dict[str, tuple[str, ...]] | None, NOT_A_FLAG] = None
    """The content of that file, once a job has read it."""
    turns_per_image: Annotated[int, Range(min=1)] = 5
    """Turns to ask of an image, each by a request of its own (the paper's M)."""
    answer_temperature: Annotated[float, Range(min=0)] = 1.0
    """Sampling temperature of --answers; 0, for one answer only, takes the likeliest tokens."""
    keep_best: bool = False
    """Make the best of a question's answers the turn's answer, and its first answer the draft."""
    best_by: RankedBy = "grounding"
    """Score by which --keep-best tells the best."""
    score: bool = True
    """Score the turns; without, no scorer starts, and jobs.score can do it later."""

    @property
    def is_scored(self) -> bool:
        return self.score

    @property
    def asked_wordings(self) -> Mapping[str, tuple[str, ...]]:
        """The wordings of instructions by kind: the user's, else the method's."""
        return self.wordings or INSTRUCTIONS[self.method]

    @property
    def corrects(self) -> bool:
        return self.correct or self.method == "vigc"

    @property
    def answer_sampling(self) -> Sampling:
        return replace(self.sampling, temperature=self.answer_temperature)

    @property
    def kept_by(self) -> RankedBy | None:
        return self.best_by if self.keep_best else None

    def conflicts(self) -> Conflicts:
        yield from super().conflicts()
        if self.answers > 1 and self.answer_temperature == 0:
            yield "answer_temperature", SAME_ANSWER
        yield from find_conflicts(self)
        if not self.keep_best:
            return
        if not self.answers:
            yield "keep_best", "has no answers to choose from; ask for some with --answers"
        if self.corrects:
            correcting = "--correct" if self.method == "c3l" else "--method vigc"
            yield "keep_best", f"a turn has one draft, and {correcting} makes one; drop one of both"
        if self.token_gains:
            yield "keep_best", "would part an answer from its --token-gains; drop one of both"
        if self.best_by == "random":
            yield "best_by", "is no score of an answer; name one"


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(RecordsConfig):
    """Turns that were made elsewhere in, records of scored turns out."""

    input: tuple[str, ...]
    """Files, folders or globs: LLaVA .json or .jsonl, Parquet of turns, or an earlier run."""
    layout: TurnsLayout = field(default_factory=TurnsLayout)
    scorer: RequiredScorerModel

    @property
    def scorer_name(self) -> str:
        return self.scorer.name


SAME_ANSWER = "would give one and the same answer each time; ask for 1 answer, or raise it"
