"""Select: the turns of a run that rank highest, as records that hold nothing else.

Two passes over the records: the first reads ids and one score, the second whole rows of the chosen
images only. Memory grows with the number of turns, not with the images.
"""

import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from c3l_ray.config import SelectConfig
from c3l_ray.dataset import llava_export
from c3l_ray import storage
from c3l_ray.runs.folder import Manifest, Output
from c3l_ray.errors import PreflightError
from c3l_ray.methods import ranking
from c3l_ray.schema import replace_columns

OURS = re.compile(r"selection\.json|llava\.json|images|part-\d{5}\.parquet")
FILE_ROWS = 4096
FILE_BYTES = 256 * 2**20

Choice = dict[str, dict[int, list[int]]]  # unit -> row -> places of the chosen turns in it


def select(config: SelectConfig) -> dict[str, Any]:
    """Writes the dataset of a selection, and returns what `selection.json` says of it.

    Raises:
        PreflightError: the input is no run, has no scored turns, or the output holds something else.
    """
    source = Output(config.input, "--input")
    try:
        run = source.read_json("run.json")
    except storage.ERRORS as error:
        raise PreflightError(f"--input {config.input}: cannot be read: {error}") from error
    if run is None:
        raise PreflightError(f"--input {config.input}: not the output of a run: it has no run.json")
    manifests = {manifest.unit: manifest for manifest in source.manifests() if manifest.file}
    choice, num_scored, threshold = choose(source, manifests, config)
    target = Output(config.output or f"{config.input.rstrip('/')}/dataset")
    _clear(target)

    writer = llava_export.Llava(target, config.group)
    files, images, turns = 0, 0, 0
    for table in parts(source, manifests, choice):
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        target.put(f"part-{files:05d}.parquet", buffer.getvalue())
        writer.add(table)
        files += 1
        images += table.num_rows
        turns += sum(len(row) for row in table["turns"].to_pylist())
    writer.close()
    selection = {
        "input": config.input,
        "output": target.path,
        "origin": run["origin"],
        "finished_input": run["finished"] is not None,
        "by": config.by,
        "per": config.per,
        "within": config.within,
        "top": config.top,
        "seed": config.seed,
        "group": config.group,
        "threshold": threshold,
        "turns_scored": num_scored,
        "turns": turns,
        "images": images,
        "files": files,
        "finished": True,
    }
    target.write_json("selection.json", selection)
    return selection


def choose(
    source: Output, manifests: Mapping[str, Manifest], config: SelectConfig
) -> tuple[Choice, int, float | None]:
    """The chosen turns, how many had a score, and the lowest chosen score of a global ranking.

    Ties fall by image id and place, so that the same records give the same choice.

    Raises:
        PreflightError: no turn has the score.
    """
    scored = [_scored(source, manifest, config) for manifest in manifests.values()]
    found = pa.concat_tables(scored) if scored else None
    if found is None or not found.num_rows:
        raise PreflightError(f"--by {config.by}: no turn in {source.path} has this score")
    image = np.unique(found["image_id"].to_numpy(), return_inverse=True)[1]
    turn, scores = found["turn"].to_numpy(), found["score"].to_numpy()
    if config.within != "dataset":
        strata = found["kind"].to_numpy()
        if config.within == "kind_and_length":
            strata = ranking.length_strata(found["length"].to_numpy(), strata)
        scores = ranking.percentile_rank(scores, strata)
    if config.per == "image":
        ranked = np.lexsort((turn, -scores, image))
        _, first, counts = np.unique(image[ranked], return_index=True, return_counts=True)
        position = np.arange(len(ranked)) - np.repeat(first, counts)
        chosen = ranked[position < _num_kept(config.top, counts).repeat(counts)]
    else:
        ranked = np.lexsort((turn, image, -scores))
        chosen = ranked[: int(_num_kept(config.top, np.array(len(ranked))))]
    choice: Choice = defaultdict(lambda: defaultdict(list))
    for place in found.select(["unit", "row", "turn"]).take(chosen).to_pylist():
        choice[place["unit"]][place["row"]].append(place["turn"])
    threshold = None
    if config.per == "dataset" and config.by != "random":
        threshold = float(scores[chosen[-1]])
        if config.by == ranking.LOWER_IS_BETTER and config.within == "dataset":
            threshold = -threshold
    return choice, found.num_rows, threshold


def _num_kept(top: float, count: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of so many turns are kept: a share of them, at least one, or a number."""
    kept = np.full_like(count, top) if top > 1 else np.maximum(1, np.round(top * count))
    return np.minimum(kept, count).astype(np.int64)


def _scored(source: Output, manifest: Manifest, config: SelectConfig) -> pa.Table:
    """Every turn of a unit that has the score: higher is better, whatever the score."""
    by = "i2c" if config.by == "random" else config.by
    fields = ["kind", "answer", "status", f"scores.{by}"]
    columns = ["image_id", *(f"turns.list.element.{field}" for field in fields)]
    table = source.records(manifest, columns).combine_chunks()
    lists = table["turns"].chunk(0)
    turns = lists.flatten()
    row = pc.list_parent_indices(lists)
    score = pc.cast(pc.struct_field(turns, ["scores", by]), pa.float64())
    image_id = table["image_id"].take(row).combine_chunks()
    first = np.asarray(lists.offsets)[:-1]
    turn = np.arange(len(turns)) - (first - first[0])[row]
    if config.by == "random":
        chances = [
            ranking.uniform_from(f"{config.seed} {image} {place}")
            for image, place in zip(image_id.to_pylist(), turn, strict=True)
        ]
        score = pc.if_else(pc.is_valid(score), pa.array(chances, pa.float64()), score)
    elif config.by == ranking.LOWER_IS_BETTER:
        score = pc.negate(score)
    found = pa.table(
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
    good = pc.equal(turns.field("status"), "ok")
    return found.filter(pc.and_(good, pc.fill_null(pc.is_finite(score), False)))


def parts(source: Output, manifests: Mapping[str, Manifest], choice: Choice) -> Iterator[pa.Table]:
    """Records with their chosen turns only, gathered into files worth writing."""
    waiting: list[pa.Table] = []
    for unit in sorted(choice):
        rows = sorted(choice[unit])
        table = source.records(manifests[unit]).take(rows)
        turns = table["turns"].to_pylist()
        kept = [[turns[i][t] for t in sorted(choice[unit][row])] for i, row in enumerate(rows)]
        waiting.append(replace_columns(table, turns=kept))
        if (
            sum(part.num_rows for part in waiting) >= FILE_ROWS
            or sum(part.nbytes for part in waiting) >= FILE_BYTES
        ):
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _clear(target: Output) -> None:
    """Empties the folder of an earlier selection, finished or not, and of nothing else.

    The mark that it is a selection's folder goes first and stays to the end.
    """
    try:
        there = target.listed()
        strange = [name for name in there if not OURS.fullmatch(name)]
        if strange or (there and "selection.json" not in there):
            raise PreflightError(
                f"--output {target.path}: holds something other than an earlier selection; "
                "choose another folder"
            )
        target.write_json("selection.json", {"finished": False})
        for name in there - {"selection.json"}:
            target.fs.rm(f"{target.root}/{name}", recursive=name == "images")
    except storage.ERRORS as error:
        raise PreflightError(f"--output {target.path}: cannot be used: {error}") from error
