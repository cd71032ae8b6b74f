"""Selection: the turns of a run that rank highest, as records that hold nothing else.

Two passes over the records: the first reads ids and one score, the second whole rows of the chosen
images only. Memory grows with the number of turns, not with the images.
"""

import dataclasses
import io
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from c3l_ray import __version__, storage
from c3l_ray.config import SelectConfig
from c3l_ray.dataset.llava_export import LlavaWriter
from c3l_ray.errors import PreflightError
from c3l_ray.methods import ranking
from c3l_ray.methods.scores import LOWER_IS_BETTER
from c3l_ray.runs.commit import Manifest, read_manifests, read_records
from c3l_ray.runs.folder import SELECTION, RunFolder
from c3l_ray.runs.report import now
from c3l_ray.schema import Record, replace_columns

SELECTION_FILES = re.compile(r"selection\.json|llava\.json|images|part-\d{5}\.parquet")
FILE_ROWS = 4096
FILE_BYTES = 256 * 2**20

Choice = dict[str, dict[int, list[int]]]
"""By unit and row, the places of the chosen turns."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SelectionReport:
    """What selection.json says of a dataset.

    Attributes:
        job: "select".
        version: of c3l-ray.
        input: the run.
        input_finished: when the run finished; None where it had not.
        origin: of the run.
        output: the dataset's folder.
        by, within, per, top, seed, group: as they were asked for.
        threshold: the lowest chosen score, or percentile rank, of a ranking of the whole dataset.
        scored_turns: that had the score.
        turns: chosen.
        images: with a chosen turn.
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
    top: float
    seed: int
    group: str
    threshold: float | None
    scored_turns: int
    turns: int = 0
    images: int = 0
    files: int = 0
    finished: str | None = None


def select_turns(config: SelectConfig) -> SelectionReport:
    """Writes the dataset of a selection, and returns what selection.json says of it.

    Raises:
        PreflightError: the input is no run, has no scored turns, or the output holds something
            else.
    """
    source = RunFolder.open(config.input, "--input")
    run = source.read_run()
    if run["finished"] is None:
        log.warning("the run in %s is not finished; this selects from what it has", config.input)
    manifests = {manifest.unit: manifest for manifest in read_manifests(source) if manifest.file}
    choice, num_scored, threshold = choose_turns(source, manifests, config)
    target = RunFolder.open(config.output or f"{config.input.rstrip('/')}/dataset")
    report = SelectionReport(
        input=config.input,
        input_finished=run["finished"],
        origin=run["origin"],
        output=target.path,
        by=config.by,
        within=config.within,
        per=config.per,
        top=config.top,
        seed=config.seed,
        group=config.group,
        threshold=threshold,
        scored_turns=num_scored,
    )
    _clear_folder(target, report)

    llava = LlavaWriter(target, config.group)
    files, images, turns = 0, 0, 0
    for table in selected_tables(source, manifests, choice):
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        target.write(f"part-{files:05d}.parquet", buffer.getvalue())
        llava.add(table)
        files += 1
        images += table.num_rows
        turns += sum(len(row) for row in table["turns"].to_pylist())
    llava.close()
    report = dataclasses.replace(report, turns=turns, images=images, files=files, finished=now())
    target.write_json(SELECTION, dataclasses.asdict(report))
    return report


def choose_turns(
    source: RunFolder, manifests: Mapping[str, Manifest], config: SelectConfig
) -> tuple[Choice, int, float | None]:
    """The chosen turns, how many had a score, and the lowest chosen score of a global ranking.

    Ties fall by image id and place, so that the same records give the same choice.

    Args:
        source: the run.
        manifests: of its files, by unit.
        config: of the selection.

    Raises:
        PreflightError: no turn has the score.
    """
    tables = [_read_scored_turns(source, manifest, config) for manifest in manifests.values()]
    scored = pa.concat_tables(tables) if tables else None
    if scored is None or not scored.num_rows:
        raise PreflightError(f"--by {config.by}: no turn in {source.path} has this score")
    image = np.unique(scored["image_id"].to_numpy(), return_inverse=True)[1]
    turn, scores = scored["turn"].to_numpy(), scored["score"].to_numpy()
    if config.within != "dataset":
        strata = scored["kind"].to_numpy()
        if config.within == "kind_and_length":
            strata = ranking.length_strata(scored["length"].to_numpy(), strata)
        scores = ranking.percentile_rank(scores, strata)
    if config.per == "image":
        ranked = np.lexsort((turn, -scores, image))
        _, first, counts = np.unique(image[ranked], return_index=True, return_counts=True)
        position = np.arange(len(ranked)) - np.repeat(first, counts)
        chosen = ranked[position < _count_kept(config.top, counts).repeat(counts)]
    else:
        ranked = np.lexsort((turn, image, -scores))
        chosen = ranked[: int(_count_kept(config.top, np.array(len(ranked))))]
    choice: Choice = defaultdict(lambda: defaultdict(list))
    for place in scored.select(["unit", "row", "turn"]).take(chosen).to_pylist():
        choice[place["unit"]][place["row"]].append(place["turn"])
    threshold = None
    if config.per == "dataset" and config.by != "random":
        threshold = float(scores[chosen[-1]])
        if config.by in LOWER_IS_BETTER and config.within == "dataset":
            threshold = -threshold
    return choice, scored.num_rows, threshold


def _count_kept(top: float, count: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of so many turns are kept: a share of them, at least one, or a number."""
    kept = np.full_like(count, top) if top > 1 else np.maximum(1, np.round(top * count))
    return np.minimum(kept, count).astype(np.int64)


def _read_scored_turns(source: RunFolder, manifest: Manifest, config: SelectConfig) -> pa.Table:
    """Every turn of a unit that has the score: higher is better, whatever the score."""
    by = "i2c" if config.by == "random" else config.by
    fields = ["kind", "answer", "status", f"scores.{by}"]
    columns = ["image_id", *(f"turns.list.element.{field}" for field in fields)]
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
        }
    )
    is_ok = pc.equal(turns.field("status"), "ok")
    return scored.filter(pc.and_(is_ok, pc.fill_null(pc.is_finite(score), False)))


def selected_tables(
    source: RunFolder, manifests: Mapping[str, Manifest], choice: Choice
) -> Iterator[pa.Table]:
    """Records with their chosen turns only, gathered into tables worth a file each.

    Args:
        source: the run.
        manifests: of its files, by unit.
        choice: of turns.
    """
    pending: list[pa.Table] = []
    for unit in sorted(choice):
        rows = sorted(choice[unit])
        table = read_records(source, manifests[unit]).take(rows)
        records: list[Record] = table.select(["turns"]).to_pylist()
        chosen_turns = [
            [record["turns"][place] for place in sorted(choice[unit][row])]
            for row, record in zip(rows, records, strict=True)
        ]
        pending.append(replace_columns(table, turns=chosen_turns))
        if (
            sum(table.num_rows for table in pending) >= FILE_ROWS
            or sum(table.nbytes for table in pending) >= FILE_BYTES
        ):
            yield pa.concat_tables(pending)
            pending = []
    if pending:
        yield pa.concat_tables(pending)


def _clear_folder(target: RunFolder, report: SelectionReport) -> None:
    """Empties the folder of an earlier selection, finished or not, and of nothing else.

    The mark that it is a selection's folder, its report, goes first and stays to the end.
    """
    try:
        children = {child.name: child for child in target.location.list_children()}
        is_strange = any(not SELECTION_FILES.fullmatch(name) for name in children)
        if is_strange or (children and SELECTION not in children):
            raise PreflightError(
                f"--output {target.path}: holds something other than an earlier selection; "
                "choose another folder"
            )
        target.write_json(SELECTION, dataclasses.asdict(report))
        for name, child in children.items():
            if name != SELECTION:
                child.remove(recursive=name == "images")
    except storage.ERRORS as error:
        raise PreflightError(f"--output {target.path}: cannot be used: {error}") from error
