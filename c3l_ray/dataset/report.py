"""selection.json: what was chosen, how, and what was written of it."""

from dataclasses import dataclass, field
from typing import Any

from c3l_ray import __version__
from c3l_ray.select_config import SelectConfig


@dataclass(frozen=True, kw_only=True)
class SelectionReport:
    """What selection.json says of a dataset.

    Attributes:
        job: "select".
        version: of c3l-ray.
        input: the address of the run.
        input_finished: when the run finished; None where it had not.
        origin: of the run.
        output: the dataset's folder.
        by, within, per, at_least, seed, group, export, llava, license: as they were asked for.
        top: the share or number that was asked for; None is all that are good enough.
        mix: the share of each kind that was asked for; empty where the ranking alone decided.
        require_gain: whether turns that the image refutes were left out.
        threshold: the worst chosen score, or percentile rank, of a ranking of the whole dataset.
        scored_turns: that had the score.
        refuted_turns: of these, those left out because their gain is below 0.
        worse_turns: of the scored turns, those left out because they are worse than at_least.
        exclude_benchmark: the paths of benchmarks whose images were left out.
        benchmark_images: of these that could be compared.
        excluded_images: of the run that a benchmark has too.
        drop_near_duplicates: as it was asked for.
        near_duplicate_images: of the run that look like an earlier one, and no benchmark has.
        excluded_turns: scored turns about images that were left out for one of these reasons.
        not_compared_images: of the run that are missing, damaged, or of one colour.
        unusable_images: that had chosen turns and cannot be decoded here, left out.
        rows_without_image: rows whose image is a path without bytes, since the run has none.
        rewritten_images: that decode differently than they lie, written as decoded.
        turns: chosen and written.
        kinds: of these turns, how many of each.
        images: with such a turn.
        samples: rows written.
        pairs: preference pairs by where the worse answer comes from.
        unpaired_turns: chosen turns that make no pair, by the reason; they are not written.
        score_percentiles: of the written turns' scores, at 5, 25, 50, 75 and 95 percent.
        files: of Parquet.
        finished: when, or None while files are being written.
    """

    job: str = "select"
    version: str = __version__
    input: str
    input_finished: str | None
    origin: str
    output: str
    by: str
    within: str
    per: str
    top: float | None
    at_least: float | None = None
    seed: int
    mix: dict[str, float] = field(default_factory=dict)
    group: str
    export: str = "conversations"
    llava: str = "none"
    license: str | None = None
    require_gain: bool
    threshold: float | None
    scored_turns: int
    refuted_turns: int
    worse_turns: int = 0
    exclude_benchmark: list[str] = field(default_factory=list)
    benchmark_images: int = 0
    excluded_images: int = 0
    drop_near_duplicates: bool = False
    near_duplicate_images: int = 0
    excluded_turns: int = 0
    not_compared_images: int = 0
    unusable_images: int = 0
    rows_without_image: int = 0
    rewritten_images: int = 0
    turns: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    images: int = 0
    samples: int = 0
    pairs: dict[str, int] = field(default_factory=dict)
    unpaired_turns: dict[str, int] = field(default_factory=dict)
    score_percentiles: dict[str, dict[str, float]] = field(default_factory=dict)
    files: int = 0
    finished: str | None = None


def note_settings(config: SelectConfig) -> dict[str, Any]:
    """What selection.json says of the settings: with the same ones the same turns are chosen."""
    return {
        "by": config.by,
        "within": config.within,
        "per": config.per,
        "top": config.kept,
        "at_least": config.at_least,
        "seed": config.seed,
        "mix": config.shares,
        "group": config.group,
        "export": config.export,
        "llava": config.llava,
        "license": config.license,
        "require_gain": config.leaves_out_refuted,
        "exclude_benchmark": list(config.exclude_benchmark),
        "drop_near_duplicates": config.drop_near_duplicates,
    }
