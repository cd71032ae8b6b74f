"""What a user can set of a selection: flags of jobs.select, as those of `config`."""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from c3l_ray.flags import optional
from c3l_ray.kind_shares import parse_shares
from c3l_ray.methods.scores import RankedBy
from c3l_ray.ranges import Conflicts, Range, check_config

Within = Literal["dataset", "kind", "kind_and_length"]
Export = Literal["conversations", "preference"]
LlavaExport = Literal["none", "json", "images"]

DEFAULT_TOP = 0.1
BLIND_TO_GAIN = frozenset(
    {"random", "clip", "image_logprob", "min_logprob", "text_logprob", "posed_logprob"}
)
"""What turns are ranked by without comparing an answer with and without its image."""

SHARE_OR_COUNT = "must be a share below 1 or a whole number of turns"


def is_share_or_count(top: float) -> bool:
    """Whether a number is a share of all turns, or a whole number of them: 1 is one turn."""
    return 0 < top < 1 or (top >= 1 and float(top).is_integer())


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Records in, the turns worth training on out."""

    input: str
    """Output folder of a jobs.generate or jobs.score run, local or s3://."""
    output: Annotated[str | None, optional("STR")] = None
    """Folder for the dataset, local or s3://, made afresh (default: `dataset` in the input)."""
    top: Annotated[float | None, Range(above=0), optional("FLOAT")] = None
    """Share of scored turns to keep, or a count of 1 or more (default: 0.1, or all --at-least)."""
    at_least: Annotated[float | None, optional("FLOAT")] = None
    """Leave out turns whose score is worse: below this, or above it where lower is better."""
    by: RankedBy = "i2c"
    """Score that ranks the turns: i2c is the paper's; on scenes grounding told true turns best."""
    within: Within = "dataset"
    """Rank raw scores, or each turn among its kind, or among its kind's turns of like length."""
    per: Literal["dataset", "image"] = "dataset"
    """Keep the top of the whole dataset, or of each image; a share is at least one turn of each."""
    # A control must rank what it ranks: it knows nothing of the difference that the image makes.
    require_gain: bool = True
    """Leave out turns whose gain is below 0, unless ranked by random, clip or a log-probability."""
    seed: int = 0
    """Seed of --by random."""
    mix: Annotated[tuple[str, ...], optional("KIND=SHARE ...")] = ()
    """Share of each kind among the kept turns, as detail=0.4 short=0.6 (default: as they rank)."""
    exclude_benchmark: Annotated[tuple[str, ...], optional("PATH ...")] = ()
    """Leave out images that a benchmark has too: its images, or its Parquet, tars or LLaVA JSON."""
    drop_near_duplicates: bool = False
    """Of the run's images that look alike, keep the first; samples of one picture look alike."""
    group: Literal["turn", "image"] = "turn"
    """Write a sample for each turn, or one for all the chosen turns of an image."""
    export: Export = "conversations"
    """Write conversations, or preference pairs: a better and a worse answer to one question."""
    llava: LlavaExport = "none"
    """Write llava.json too, with the input's names of images (json) or with files of them."""
    license: Annotated[str | None, optional("STR")] = None
    """License that the dataset card names, by its identifier on the Hub such as cc-by-4.0."""

    def __post_init__(self) -> None:
        check_config(self)

    @property
    def leaves_out_refuted(self) -> bool:
        """Whether turns that the image refutes are left out."""
        return self.require_gain and self.by not in BLIND_TO_GAIN

    @property
    def kept(self) -> float | None:
        """The share or number of the scored turns to keep; None is all that are good enough."""
        return DEFAULT_TOP if self.top is None and self.at_least is None else self.top

    @property
    def shares(self) -> dict[str, float]:
        """The share of each kind among the kept turns; empty where their ranking alone decides."""
        return parse_shares(self.mix)

    def conflicts(self) -> Conflicts:
        yield from self._conflicts_of_ranking()
        yield from self._conflicts_of_export()

    def _conflicts_of_ranking(self) -> Conflicts:
        if self.top is not None and not is_share_or_count(self.top):
            yield "top", SHARE_OR_COUNT
        if self.at_least is not None and not math.isfinite(self.at_least):
            yield "at_least", "must be a finite number"
        if self.at_least is not None and self.by == "random":
            yield "at_least", "--by random has no score to compare with it; drop it"
        try:
            shares = self.shares
        except ValueError as error:
            shares = {}
            yield "mix", str(error)
        if shares and self.per == "image":
            yield "mix", "is of the whole dataset; drop --per image"
        if shares and self.kept is None:
            yield "mix", "divides a number of turns; give it by --top"

    def _conflicts_of_export(self) -> Conflicts:
        if self.license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.license):
            yield "license", "must be an identifier of the Hub such as apache-2.0, or other"
        if self.export == "preference":
            if self.by == "random":
                yield "export", "--by random has no score that tells the better answer"
            if self.group == "image":
                yield "export", "a pair is of one turn; drop --group image"
            if self.llava != "none":
                yield "export", "LLaVA's format has no pairs; drop --llava"
