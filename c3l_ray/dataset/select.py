"""Selection: the turns of a run that rank highest, as records that hold nothing else.

Two passes over the records: the first reads ids and scores (`choose`), the second whole rows of the
chosen images only. Memory grows with the number of turns, not with the images.
"""

import dataclasses
import io
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray import __version__, storage
from c3l_ray.config import SelectConfig
from c3l_ray.dataset.card import CARD, make_card
from c3l_ray.dataset.choose import Choice, choose_turns
from c3l_ray.dataset.image_export import export_images
from c3l_ray.dataset.llava_export import LlavaWriter
from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.runs.commit import Manifest, read_manifests, read_records
from c3l_ray.runs.folder import REPORT, SELECTION, RunFolder
from c3l_ray.runs.state import now
from c3l_ray.schema import Record, replace_columns

SELECTION_FILES = re.compile(r"selection\.json|llava\.json|README\.md|images|part-\d{5}\.parquet")
FILE_ROWS = 4096
FILE_BYTES = 256 * 2**20

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
        by, within, per, at_least, seed, group: as they were asked for.
        top: the share or number that was asked for; None is all that are good enough.
        require_gain: whether turns that the image refutes were left out.
        threshold: the worst chosen score, or percentile rank, of a ranking of the whole dataset.
        scored_turns: that had the score.
        refuted_turns: of these, those left out because their gain is below 0.
        worse_turns: of the scored turns, those left out because they are worse than at_least.
        unusable_images: that had chosen turns and cannot be decoded here, left out.
        rewritten_images: that decode differently than they lie, written as decoded.
        turns: chosen and written.
        images: with such a turn.
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
    group: str
    require_gain: bool
    threshold: float | None
    scored_turns: int
    refuted_turns: int
    worse_turns: int = 0
    unusable_images: int = 0
    rewritten_images: int = 0
    turns: int = 0
    images: int = 0
    files: int = 0
    finished: str | None = None


def select_turns(config: SelectConfig) -> SelectionReport:
    """Writes the dataset of a selection, and returns what selection.json says of it.

    Raises:
        PreflightError: the input is no run, has no scored turns, or the output holds something
            else.
        C3LError: no image of a chosen turn can be decoded here.
    """
    source = RunFolder.open(config.input, "--input")
    run = source.read_run()
    if "origin" not in run:
        raise PreflightError(f"--input {config.input}: its {REPORT} is not that of a run")
    if run.get("finished") is None:
        log.warning("the run in %s is not finished; this selects from what it has", config.input)
    manifests = {manifest.unit: manifest for manifest in read_manifests(source) if manifest.file}
    chosen = choose_turns(source, manifests, config)
    if chosen.num_refuted:
        log.info(
            "left out %d of %d scored turns, which the image refutes (gain < 0)",
            *(chosen.num_refuted, chosen.num_scored),
        )
    target = RunFolder.open(config.output or f"{config.input.rstrip('/')}/dataset")
    report = SelectionReport(
        input=config.input,
        input_finished=run.get("finished"),
        origin=run["origin"],
        output=target.path,
        by=config.by,
        within=config.within,
        per=config.per,
        top=config.kept,
        at_least=config.at_least,
        seed=config.seed,
        group=config.group,
        require_gain=config.leaves_out_refuted,
        threshold=chosen.threshold,
        scored_turns=chosen.num_scored,
        refuted_turns=chosen.num_refuted,
        worse_turns=chosen.num_worse,
    )
    _clear_folder(target, report)

    tables = selected_tables(source, manifests, chosen.choice)
    report = dataclasses.replace(_write_tables(target, tables, report), finished=now())
    target.write(CARD, make_card(dataclasses.asdict(report)).encode())
    target.write_json(SELECTION, dataclasses.asdict(report))
    return report


def _write_tables(
    target: RunFolder, tables: Iterable[pa.Table], report: SelectionReport
) -> SelectionReport:
    """Writes Parquet files, images and llava.json; returns the report with their counts."""
    llava = LlavaWriter(target, report.group)
    turns, images, files, rewritten_images = 0, 0, 0, 0
    failures: list[str] = []
    for table, num_rewritten, failures_of_table in map(export_images, tables):
        failures += failures_of_table
        if not table.num_rows:
            continue
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        target.write(f"part-{files:05d}.parquet", buffer.getvalue())
        llava.add(table)
        turns += sum(len(row) for row in table["turns"].to_pylist())
        images += table.num_rows
        files += 1
        rewritten_images += num_rewritten
    llava.close()
    if failures and not images:
        raise C3LError(f"no image of a chosen turn can be decoded here, for example {failures[0]}")
    if failures:
        log.warning(
            "left out %d images that cannot be decoded here, for example %s",
            *(len(failures), failures[0]),
        )
    return dataclasses.replace(
        report,
        turns=turns,
        images=images,
        files=files,
        rewritten_images=rewritten_images,
        unusable_images=len(failures),
    )


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
