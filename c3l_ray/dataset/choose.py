"""Which turns of a run rank highest: a pass over its ids and scores."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from c3l_ray.errors import PreflightError
from c3l_ray.kind_shares import apportion, find_largest_total
from c3l_ray.methods import ranking
from c3l_ray.methods.scores import LOWER_IS_BETTER
from c3l_ray.runs.commit import Manifest, read_records
from c3l_ray.runs.folder import RunFolder
from c3l_ray.select_config import SelectConfig

Choice = dict[str, dict[int, list[int]]]
"""By unit and row, the places of the chosen turns."""
ExcludedRows = Mapping[str, frozenset[int]]
"""By unit, the rows of images whose turns are left out."""


class ChosenTurns(NamedTuple):
    """What a ranking keeps.

    Attributes:
        choice: the turns.
        num_scored: turns that had the score.
        num_refuted: of these, those left out because their gain is below 0.
        num_worse: of the scored turns, those left out because they are worse than --at-least.
        num_excluded: of the scored turns, those left out with their image.
        threshold: the worst chosen score of a ranking of the whole dataset.
    """

    choice: Choice
    num_scored: int
    num_refuted: int
    num_worse: int
    num_excluded: int
    threshold: float | None


def choose_turns(
    source: RunFolder,
    manifests: Mapping[str, Manifest],
    config: SelectConfig,
    excluded: ExcludedRows | None = None,
) -> ChosenTurns:
    """The turns that rank highest among those that are not left out.

    Ties fall by image id and place, so that the same records give the same choice. Percentile ranks
    and shares are of all scored turns: a turn that is left out gives its place to the next.

    Args:
        source: the run.
        manifests: of its files, by unit.
        config: of the selection.
        excluded: images to leave out, by unit and row.

    Raises:
        PreflightError: no turn has the score, the image refutes all that have it, none is good
            enough or has another image than those to leave out, or a kind has too few for --mix.
    """
    if not manifests:
        raise PreflightError(f"{source.flag} {source.path}: holds no committed images yet")
    excluded = excluded or {}
    tables = [
        _read_scored_turns(source, manifest, config, excluded.get(manifest.unit, frozenset()))
        for manifest in manifests.values()
    ]
    scored = pa.concat_tables(tables)
    if not scored.num_rows:
        raise PreflightError(f"--by {config.by}: no turn in {source.path} has this score")
    image = np.unique(scored["image_id"].to_numpy(), return_inverse=True)[1]
    turn, scores = scored["turn"].to_numpy(), scored["score"].to_numpy()
    is_refuted = scored["is_refuted"].to_numpy()
    if is_refuted.all():
        raise PreflightError(
            f"--require-gain: the image refutes all {len(scores)} scored turns in {source.path} "
            "(gain < 0); --no-require-gain selects among them"
        )
    is_worse = _find_worse(scores, config)
    is_excluded = scored["is_excluded"].to_numpy()
    if (is_refuted | is_excluded).all():
        raise PreflightError(
            f"--exclude-benchmark, --drop-near-duplicates: {is_excluded.sum()} of {len(scores)} "
            f"scored turns in {source.path} are left out, and the image refutes all others "
            "(gain < 0)"
        )
    is_left_out = is_refuted | is_worse | is_excluded
    if is_left_out.all():
        best = _restore_sign(float(scores[~(is_refuted | is_excluded)].max()), config)
        raise PreflightError(
            f"--at-least {config.at_least:g}: no scored turn in {source.path} is as good; the "
            f"best {config.by} is {best:g}"
        )
    if config.within != "dataset":
        strata = scored["kind"].to_numpy()
        if config.within == "kind_and_length":
            strata = ranking.length_strata(scored["length"].to_numpy(), strata)
        scores = ranking.percentile_rank(scores, strata)
    if config.per == "image":
        ranked = np.lexsort((turn, -scores, image))
        ranked = ranked[~is_left_out[ranked]]
        images, first, counts = np.unique(image[ranked], return_index=True, return_counts=True)
        position = np.arange(len(ranked)) - np.repeat(first, counts)
        num_kept = _count_kept(config.kept, np.bincount(image)[images])
        chosen = ranked[position < num_kept.repeat(counts)]
    else:
        ranked = np.lexsort((turn, image, -scores))
        ranked = ranked[~is_left_out[ranked]]
        total = int(_count_kept(config.kept, np.array(len(scores))))
        if config.shares:
            kinds = scored["kind"].take(ranked).to_numpy()
            ranked = ranked[_find_first_of_kinds(kinds, total, config)]
        chosen = ranked[:total]
    choice: Choice = defaultdict(lambda: defaultdict(list))
    for place in scored.select(["unit", "row", "turn"]).take(chosen).to_pylist():
        choice[place["unit"]][place["row"]].append(place["turn"])
    threshold = None
    if config.per == "dataset" and config.by != "random":
        threshold = float(scores[chosen[-1]])
        if config.within == "dataset":
            threshold = _restore_sign(threshold, config)
    return ChosenTurns(
        choice=choice,
        num_scored=len(scores),
        num_refuted=int(is_refuted.sum()),
        num_worse=int(is_worse.sum()),
        num_excluded=int(is_excluded.sum()),
        threshold=threshold,
    )


def _count_kept(top: float | None, count: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of so many turns are kept: a share of them, at least one, a number, or all."""
    if top is None:
        return count
    kept = top if top >= 1 else np.maximum(1, np.round(top * count))
    return np.minimum(kept, count).astype(np.int64)


def _find_first_of_kinds(
    kinds: NDArray[np.object_], num_kept: int, config: SelectConfig
) -> NDArray[np.bool_]:
    """For each turn, in the order of their ranks, whether it is kept for the share of its kind.

    Raises:
        PreflightError: a kind has fewer turns than its share asks for.
    """
    counts = apportion(num_kept, config.shares)
    available = Counter(kinds.tolist())
    lacking = [kind for kind, count in counts.items() if count > available[kind]]
    if lacking:
        there = ", ".join(f"{kind} {count}" for kind, count in available.most_common())
        asked = ", ".join(f"{counts[kind]} of kind {kind}" for kind in lacking)
        advice = ""
        if all(available[kind] for kind in lacking):
            largest = find_largest_total(available, config.shares)
            advice = f"; --top {largest} is the most that has these shares"
        raise PreflightError(
            f"--mix {' '.join(config.mix)}: asks for {asked} among {num_kept} turns; the turns "
            f"that can be kept are {there}{advice}"
        )
    is_kept = np.zeros(len(kinds), dtype=bool)
    for kind, count in counts.items():
        is_kept[np.flatnonzero(kinds == kind)[:count]] = True
    return is_kept


def _read_scored_turns(
    source: RunFolder, manifest: Manifest, config: SelectConfig, excluded: frozenset[int]
) -> pa.Table:
    """Every turn of a unit that has the score: higher is better, whatever the score."""
    by = "i2c" if config.by == "random" else config.by
    fields = {"kind", "answer", "status", f"scores.{by}"}
    if config.leaves_out_refuted:
        fields.add("scores.gain")
    columns = ["image_id", *(f"turns.list.element.{field}" for field in sorted(fields))]
    table = read_records(source, manifest, columns).combine_chunks()
    lists = table["turns"].chunk(0)
    turns = lists.flatten()
    row = pc.list_parent_indices(lists)
    score = pc.cast(pc.struct_field(turns, ["scores", by]), pa.float64())
    image_id = table["image_id"].take(row).combine_chunks()
    first = np.asarray(lists.offsets)[:-1]
    turn = np.arange(len(turns)) - (first - first[0])[row]
    if config.by == "random":
        random_scores = [
            ranking.uniform_from(f"{config.seed} {image} {place}")
            for image, place in zip(image_id.to_pylist(), turn, strict=True)
        ]
        score = pc.if_else(pc.is_valid(score), pa.array(random_scores, pa.float64()), score)
    elif config.by in LOWER_IS_BETTER:
        score = pc.negate(score)
    scored = pa.table(
        {
            "unit": pa.array([manifest.unit] * len(turns), pa.string()),
            "row": row,
            "turn": pa.array(turn, pa.int64()),
            "image_id": image_id,
            "kind": turns.field("kind"),
            "length": pc.utf8_length(turns.field("answer")),
            "score": score,
            "is_refuted": _find_refuted(turns, config),
            "is_excluded": np.isin(row.to_numpy(), sorted(excluded)),
        }
    )
    is_ok = pc.equal(turns.field("status"), "ok")
    return scored.filter(pc.and_(is_ok, pc.fill_null(pc.is_finite(score), False)))


def _find_worse(scores: NDArray[np.float64], config: SelectConfig) -> NDArray[np.bool_]:
    """For each turn whether it is left out because its score, higher is better, is not enough."""
    if config.at_least is None:
        return np.zeros(len(scores), dtype=bool)
    # Scores are stored in 32 bits, and 0.7 there is a little less than 0.7.
    with np.errstate(over="ignore"):
        bound = float(np.float32(config.at_least))
    return scores < _restore_sign(bound, config)


def _restore_sign(score: float, config: SelectConfig) -> float:
    """A score as it is stored from one of which higher is better, and the other way round."""
    return -score if config.by in LOWER_IS_BETTER else score


def _find_refuted(turns: pa.StructArray, config: SelectConfig) -> pa.Array:
    """For each turn whether it is left out because the image refutes it."""
    if not config.leaves_out_refuted:
        return pa.array(np.zeros(len(turns), dtype=bool))
    return pc.fill_null(pc.less(pc.struct_field(turns, ["scores", "gain"]), 0), False)
