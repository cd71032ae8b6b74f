"""What a user can set: one frozen dataclass per concern; its docstrings are the flags' help texts.

A wrong value is refused when the config is made, before anything starts. Which of them define a
row's content is said in `origin`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

from c3l_ray.errors import Refused
from c3l_ray.methods import c3l, vigc
from c3l_ray.methods.vigc import Correction

ReplyFormat = Literal["auto", "text", "json"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Without = Literal["drop", "grey", "blur", "mismatched"]
Within = Literal["dataset", "kind", "kind_and_length"]
RankedBy = Literal[
    "i2c",
    "i2c_logits",
    "i2c_probs",
    "i2c_vocab",
    "gain",
    "gain_exp",
    "visual_ifd",
    "grounded_share",
    "flip_rate",
    "image_logprob",
    "min_logprob",
    "clip",
    "random",
]

INSTRUCTIONS = {"c3l": c3l.INSTRUCTIONS, "vigc": vigc.INSTRUCTIONS}  # by method


def at_least(flag: str, value: float, least: float) -> None:
    """Refuses what is less, and what is no number."""
    if not value >= least:
        raise Refused(f"--{flag} {value}: must be at least {least}")


@dataclass(frozen=True, kw_only=True)
class Model:
    """The generator."""

    name: str
    """Hub name, local path or s3:// folder of a vision-language model."""
    dtype: Dtype = "auto"
    """Precision of the weights; auto takes the checkpoint's own, as vLLM reads it."""
    max_len: int | None = None
    """Longest prompt and reply together, in tokens; by default the model's own limit."""
    max_seqs: int = 128
    """Requests that the engine works on at once."""
    tensor_parallel: int = 1
    """GPUs that share one copy of the weights."""
    gpu_memory: float | None = None
    """Share of a GPU's memory for the engine; by default 0.9 of --pools.generator-gpus."""

    def __post_init__(self) -> None:
        at_least("model.max-seqs", self.max_seqs, 1)
        at_least("model.tensor-parallel", self.tensor_parallel, 1)
        if self.gpu_memory is not None and not 0 < self.gpu_memory <= 1:
            raise Refused(f"--model.gpu-memory {self.gpu_memory}: must be in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How replies are drawn. Every turn has a seed of its own, from its image's id and place."""

    temperature: float = 0.7
    """0 is greedy."""
    top_p: float = 1.0
    """Draw from the likeliest tokens that hold this share of the probability."""
    max_tokens: int = 512
    """A reply that is longer is cut, and its turn counted as truncated."""

    def __post_init__(self) -> None:
        at_least("sampling.temperature", self.temperature, 0)
        at_least("sampling.max-tokens", self.max_tokens, 1)
        if not 0 < self.top_p <= 1:
            raise Refused(f"--sampling.top-p {self.top_p}: must be in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """The frozen model whose belief in an answer is measured with and without the image."""

    name: str | None = None
    """Hub name, local path or s3:// folder; by default the generator itself, before any tuning."""
    dtype: Dtype = "auto"
    """Precision of the weights; auto takes the checkpoint's own."""
    max_tokens: int = 8192
    """Tokens in one forward pass, padding included: what bounds the memory beside the weights."""
    pack: bool = True
    """Compute what the turns of an image share once; the scores are the same up to rounding."""
    without: Without = "drop"
    """What the side without the image sees: no image, a grey or blurred one, or one that belongs to
    another row; mismatched tells a need for this image from a need for any."""

    def __post_init__(self) -> None:
        at_least("scorer.max-tokens", self.max_tokens, 1)


@dataclass(frozen=True, kw_only=True)
class NamedScorer(Scorer):
    """The frozen model whose belief in an answer is measured with and without the image."""

    name: str = field()  # nothing that it could be by default
    """Hub name, local path or s3:// folder of a vision-language model."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The open_clip model behind the `clip` score: the cosine of an image and its turn's text."""

    name: str = "ViT-B-32"
    """An open_clip architecture, a hub name as hf-hub:OWNER/NAME, or the path of a local model."""
    weights: str | None = "laion2b_s34b_b79k"
    """Tag or file of the weights; hub names and local models carry their own."""


@dataclass(frozen=True, kw_only=True)
class ScorerPool:
    """How many processes score, and what each is given."""

    scorers: int = 1
    """Processes that score."""
    scorer_gpus: float | None = None
    """GPUs of each; by default 1, or beside generators 0.5 (0.3 where there is but one GPU)."""

    def __post_init__(self) -> None:
        at_least("pools.scorers", self.scorers, 1)
        if self.scorer_gpus is not None:
            at_least("pools.scorer-gpus", self.scorer_gpus, 0)


@dataclass(frozen=True, kw_only=True)
class Pools(ScorerPool):
    """How many processes do the work, and what each is given."""

    generators: int = 1
    """Processes that generate, each with an engine of its own."""
    generator_gpus: float | None = None
    """GPUs of each; by default one per tensor-parallel rank, or 0.7 where there is but one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("pools.generators", self.generators, 1)
        if self.generator_gpus is not None:
            at_least("pools.generator-gpus", self.generator_gpus, 0)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where an image and what belongs to it are found in the input.

    Columns of Parquet files are found by their usual names where none is given.
    """

    image: str | None = None
    """Binary, or a struct with `bytes` as the datasets library writes it; usually `image`."""
    caption: str | None = None
    """Text; usually `caption`, `text` or `txt`."""
    key: str | None = None
    """An image's name; usually `key`, and the row's number where there is none."""
    meta: str | None = None
    """JSON text to carry along."""
    image_root: str | None = None
    """Folder that the images of a LLaVA JSON are relative to; by default the JSON's own."""


@dataclass(frozen=True, kw_only=True)
class TurnsLayout(Layout):
    """Where an image, its turns and what belongs to it are found in the input.

    LLaVA's JSON needs none of this but, where its images lie elsewhere, the image root. Columns of
    Parquet files are found by their usual names where none is given.
    """

    turns: str | None = None
    """Lists of {question, answer}, {from, value} or {role, content}; usually `turns`,
    `conversations` or `messages`."""
    question: str | None = None
    """Text, where a row is one turn; usually `question`."""
    answer: str | None = None
    """Text, where a row is one turn; usually `answer`."""
    history: Literal["auto", "yes", "no"] = "auto"
    """Whether a turn is scored given those before it; auto: {from, value} and {role, content} are,
    {question, answer} are as their `kind` says, which without one is no."""


@dataclass(frozen=True, kw_only=True)
class RecordsConfig(ABC):
    """What every job takes that writes records of scored turns."""

    input: tuple[str, ...]
    """Files, folders or globs, local or s3://: WebDataset tars, Parquet, LLaVA JSON, images."""
    output: str
    """Folder for records and run.json, local or s3://. The same command resumes there."""
    layout: Layout = field(default_factory=Layout)
    scorer: Scorer = field(default_factory=Scorer)
    clip: Clip = field(default_factory=Clip)
    pools: ScorerPool = field(default_factory=ScorerPool)
    max_pixels: int = 1_048_576
    """Larger images are shrunk to this before any model sees them."""
    token_gain: bool = False
    """Keep what the image adds to each answer token's log-probability, in `token_gain`."""
    images: bool = True
    """Keep the images in the records, so that the dataset needs nothing else."""
    max_failed_share: float = 1.0
    """Exit with status 4 when a larger share of the images failed."""

    def __post_init__(self) -> None:
        at_least("max-pixels", self.max_pixels, 1)
        if not 0 <= self.max_failed_share <= 1:
            raise Refused(f"--max-failed-share {self.max_failed_share}: must be in [0, 1]")

    @property
    @abstractmethod
    def scorer_name(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(RecordsConfig):
    """Shards of images in, records of scored turns out."""

    model: Model
    sampling: Sampling = field(default_factory=Sampling)
    correction: Correction = field(default_factory=Correction)
    pools: Pools = field(default_factory=Pools)
    method: Literal["c3l", "vigc"] = "c3l"
    """C3L's turns, of five kinds, or VIGC's: of three kinds, and every answer is corrected."""
    correct: bool = False
    """Correct the answers of C3L's turns as VIGC does its own."""
    reply_format: ReplyFormat = "auto"
    """How replies are written: labelled text, or JSON that the engine enforces; auto: by family."""
    turns: int = 5
    """Turns asked of an image, each by a request of its own (the paper's M)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("turns", self.turns, 1)

    @property
    def scorer_name(self) -> str:
        return self.scorer.name or self.model.name

    @property
    def corrects(self) -> bool:
        return self.correct or self.method == "vigc"


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(RecordsConfig):
    """Turns that were made elsewhere in, records of scored turns out."""

    input: tuple[str, ...]
    """LLaVA .json or .jsonl, Parquet of turns, or the output folder of an earlier run: files,
    folders or globs, local or s3://."""
    layout: TurnsLayout = field(default_factory=TurnsLayout)
    scorer: NamedScorer

    @property
    def scorer_name(self) -> str:
        return self.scorer.name


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Records in, the turns worth training on out."""

    input: str
    """The output folder of a jobs.generate or jobs.score run, local or s3://."""
    output: str | None = None
    """Folder for the dataset, local or s3://, made afresh; by default `dataset` in the input."""
    top: float = 0.1
    """Share of the scored turns to keep, in (0, 1]; above 1, their number."""
    by: RankedBy = "i2c"
    """The score that ranks; random, clip and image_logprob are the controls."""
    within: Within = "dataset"
    """Rank raw scores, or each turn's standing inside its kind, or inside its kind's turns of like
    length: kinds and lengths differ in the level of every score."""
    per: Literal["dataset", "image"] = "dataset"
    """Keep the top of the whole dataset, or the top of each image (at least one turn)."""
    seed: int = 0
    """Seed of --by random."""
    group: Literal["turn", "image"] = "turn"
    """One sample of llava.json a turn, or one of all the chosen turns of an image, in order."""

    def __post_init__(self) -> None:
        if self.top <= 0 or (self.top > 1 and self.top != int(self.top)):
            raise Refused(f"--top {self.top}: must be a share in (0, 1] or a whole number of turns")
