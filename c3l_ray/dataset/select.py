"""Selection: the turns of a run that rank highest, as a dataset that trainers read.

Two passes over the records: the first reads ids and scores (`choose`), the second whole rows of the
chosen images only (`chosen_records`). Memory grows with the number of turns, not with the images.
"""

import dataclasses
import logging
import re
from collections.abc import Mapping

from c3l_ray import storage
from c3l_ray.dataset.card import CARD, make_card
from c3l_ray.dataset.choose import Choice, choose_turns
from c3l_ray.dataset.chosen_records import read_chosen
from c3l_ray.dataset.excluded_images import find_excluded
from c3l_ray.dataset.preference import find_pair
from c3l_ray.dataset.report import SelectionReport, note_settings
from c3l_ray.dataset.write import DatasetWriter
from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.no_score import check_scored
from c3l_ray.runs.commit import Manifest, read_manifests
from c3l_ray.runs.folder import PARTS, REPORT, SELECTION, RunFolder
from c3l_ray.runs.state import now
from c3l_ray.runs.write_probe import check_writable
from c3l_ray.schema import Record
from c3l_ray.select_config import SelectConfig

_PART = re.compile(r"part-\d{5}\.parquet")  # of older versions beside selection.json
_SELECTION_FILES = re.compile(
    rf"selection\.json|llava\.json|dataset_info\.json|README\.md|images|{PARTS}|{_PART.pattern}"
)
_FOLDERS = ("images", PARTS)
_COLUMNS_OF_PAIRS = ("answer", "draft", "scores", "draft_scores", "alternatives")

log = logging.getLogger(__name__)


def select_turns(config: SelectConfig) -> SelectionReport:
    """Writes the dataset of a selection, and returns what selection.json says of it.

    Raises:
        PreflightError: the input is no run, has no scored turns or too few of a kind, no chosen
            turn makes a pair, or the output holds something else or cannot be written.
        C3LError: no image of a chosen turn can be decoded here.
    """
    source = RunFolder.open(config.input, "--input")
    run = source.read_run()
    if "origin" not in run:
        raise PreflightError(f"--input {config.input}: its {REPORT} is not that of a run")
    check_scored("--input", config.input, run)
    if run.get("finished") is None:
        log.warning("the run in %s is not finished; this selects from what it has", config.input)
    target = RunFolder.open(config.output or f"{config.input.rstrip('/')}/dataset")
    check_writable(target.location, target.flag, target.path, exclusive=False)
    manifests = {manifest.unit: manifest for manifest in read_manifests(source) if manifest.file}
    excluded = find_excluded(
        source,
        manifests,
        config.exclude_benchmark,
        drops_near_duplicates=config.drop_near_duplicates,
    )
    chosen = choose_turns(source, manifests, config, excluded.rows)
    if chosen.num_refuted:
        log.info(
            "left out %d of %d scored turns, which the image refutes (gain < 0)",
            *(chosen.num_refuted, chosen.num_scored),
        )
    if config.export == "preference":
        _check_pairs(source, manifests, chosen.choice, config)
    report = SelectionReport(
        input=source.location.address,
        input_finished=run.get("finished"),
        origin=run["origin"],
        output=target.path,
        **note_settings(config),
        threshold=chosen.threshold,
        scored_turns=chosen.num_scored,
        refuted_turns=chosen.num_refuted,
        worse_turns=chosen.num_worse,
        benchmark_images=excluded.num_benchmark_images,
        excluded_images=excluded.num_in_benchmarks,
        near_duplicate_images=excluded.num_near_duplicates,
        excluded_turns=chosen.num_excluded,
        not_compared_images=excluded.num_not_compared,
    )
    _clear_folder(target, report)
    num_images = sum(map(len, chosen.choice.values()))
    writer = DatasetWriter(target, config, num_images=num_images)
    for records in read_chosen(source, manifests, chosen.choice):
        writer.add(records)
    writer.close()
    _tell_failures(writer.failures, num_written=writer.num_images)
    report = dataclasses.replace(report, **writer.counts(), finished=now())
    card = make_card(report, run, writer.instructions)
    target.write(CARD, card.encode())
    target.write_json(SELECTION, dataclasses.asdict(report))
    return report


def _check_pairs(
    source: RunFolder, manifests: Mapping[str, Manifest], choice: Choice, config: SelectConfig
) -> None:
    """Refuses a selection none of whose turns makes a preference pair."""
    columns = [f"turns.list.element.{name}" for name in _COLUMNS_OF_PAIRS]
    reasons: dict[str, int] = {}
    for chosen in read_chosen(source, manifests, choice, columns):
        records: list[Record] = chosen.table.to_pylist()
        for turn in (turn for record in records for turn in record["turns"]):
            pair = find_pair(turn, config.by)
            if not isinstance(pair, str):
                return
            reasons[pair] = reasons.get(pair, 0) + 1
    counts = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
    raise PreflightError(
        f"--export preference: no chosen turn makes a pair ({counts}); a turn needs alternatives "
        "(jobs.generate --answers) or a draft (--correct) that the score ranks below its best"
    )


def _tell_failures(failures: list[str], *, num_written: int) -> None:
    if failures and not num_written:
        raise C3LError(f"no image of a chosen turn can be decoded here, for example {failures[0]}")
    if failures:
        log.warning(
            "left out %d images that cannot be decoded here, for example %s",
            *(len(failures), failures[0]),
        )


def _clear_folder(target: RunFolder, report: SelectionReport) -> None:
    """Empties the folder of an earlier selection, finished or not, and of nothing else.

    The mark that it is a selection's folder, its report, goes first and stays to the end.
    """
    try:
        children = {child.name: child for child in target.location.list_children()}
        is_strange = any(not _SELECTION_FILES.fullmatch(name) for name in children)
        if PARTS in children:
            parts = children[PARTS].list_children()
            is_strange |= any(not _PART.fullmatch(part.name) for part in parts)
        if is_strange or (children and SELECTION not in children):
            raise PreflightError(
                f"--output {target.path}: holds something other than an earlier selection; "
                "choose another folder"
            )
        target.write_json(SELECTION, dataclasses.asdict(report))
        for name, child in children.items():
            if name != SELECTION:
                child.remove(recursive=name in _FOLDERS)
    except storage.ERRORS as error:
        raise storage.refuse(
            target.flag, target.path, target.location, error, need="used"
        ) from error
