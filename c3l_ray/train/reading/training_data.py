"""Which rows of a source are learnt from and held out, and what orders and labels them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from c3l_ray.errors import PreflightError, UnusableImage
from c3l_ray.images import decode_image
from c3l_ray.methods import c3l
from c3l_ray.methods.cgvlm import CAPTION_INSTRUCTION
from c3l_ray.methods.labels import ScoreQuantiles
from c3l_ray.methods.scores import RankedBy
from c3l_ray.schema import FOLLOW_UP, GIVEN, Record
from c3l_ray.train.reading import examples, scan
from c3l_ray.train.reading.mixture import TurnSet, compute_set_shares
from c3l_ray.train.reading.order import FileRows, count_images
from c3l_ray.train.reading.sources import RecordsSource, Source
from c3l_ray.train.training_config import TrainConfig

NUM_FIRST_IMAGES = 8  # of which one is asked about

log = logging.getLogger(__name__)

ReadRows = Callable[[str, Sequence[int]], list[Record]]
"""Rows of a file of records, by the file's address and their numbers in it."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """What a run learns from, and what it is evaluated on.

    Attributes:
        files: to learn from.
        held_out: to evaluate on.
        quantiles: of the scores, for --labels.within kind.
        read: rows of a file.
        sets: turns of the files to learn from, where the objective draws from a mixture.
        num_left_out: images of the source that have nothing for the objective to learn.
        num_follow_ups: usable turns that follow others of their conversation, and are not learnt.
    """

    files: tuple[FileRows, ...]
    held_out: tuple[FileRows, ...]
    quantiles: ScoreQuantiles
    read: ReadRows
    sets: tuple[TurnSet, ...] = ()
    num_left_out: int = 0
    num_follow_ups: int = 0

    def set_shares(self, config: TrainConfig) -> list[float]:
        """The share of the draws that each set has."""
        sizes = [len(turn_set.turns) for turn_set in self.sets]
        return compute_set_shares(sizes, config.mixture.weighting)


def load_training_data(source: Source, config: TrainConfig) -> TrainingData:
    """The rows to learn from, those held out, and what they are ordered and labelled by.

    Raises:
        PreflightError: fewer images than a batch can be learnt from, or sets that cannot be mixed.
    """
    spec = config.objective_spec
    if spec.draws_single_turns:
        data = _load_single_turns(source, config)
    else:
        data = _load_whole_records(source, config)
    if data.num_follow_ups:
        log.warning(
            "%d turns follow others of their conversation and are not learnt: they would be asked "
            "without the turns before them",
            data.num_follow_ups,
        )
    images = count_images(data.files)
    if images < config.optim.batch_size:
        raise PreflightError(
            f"--input {' '.join(config.input)}: {images} images to learn from, fewer than "
            f"--optim.batch-size {config.optim.batch_size}; an image needs {spec.requirement}, "
            f"and {data.num_left_out} images have none"
        )
    return data


def _load_whole_records(source: Source, config: TrainConfig) -> TrainingData:
    """Whole records, each once an epoch."""
    quantiles: ScoreQuantiles = {}
    records = source.texts()
    num_left_out = num_follow_ups = 0
    if config.objective == "c3l":
        assert isinstance(source, RecordsSource), "only a run has scores"
        by: RankedBy = "i2c" if config.labels.by == "random" else config.labels.by
        if config.labels.within == "kind":
            scored = source.read_columns((), ("kind", "status", f"scores.{by}"))
            quantiles = scan.collect_score_quantiles(scored, by)
        scores = (f"scores.{name}" for name in sorted({by, "gain"}))
        records = source.read_columns(
            ("image_id", "status", "caption", "meta"),
            ("kind", "status", "question", "answer", *scores),
        )

    def is_usable(record: Record) -> bool:
        nonlocal num_left_out, num_follow_ups
        num_follow_ups += _count_follow_ups(record) if config.objective == "c3l" else 0
        usable = examples.is_usable(record, config, quantiles)
        num_left_out += not usable
        return usable

    files, held_out = scan.find_usable_rows(
        records,
        is_usable,
        held_out_share=config.progress.held_out,
        max_held_out=config.progress.max_held_out,
    )
    return TrainingData(
        files=files,
        held_out=held_out,
        quantiles=quantiles,
        read=source.read,
        num_left_out=num_left_out,
        num_follow_ups=num_follow_ups,
    )


def _load_single_turns(source: Source, config: TrainConfig) -> TrainingData:
    """Single turns of records, in their sets."""
    sources = set()
    num_left_out = num_follow_ups = 0

    def find_sets(record: Record) -> dict[int, str]:
        nonlocal num_left_out, num_follow_ups
        num_follow_ups += _count_follow_ups(record)
        if any(turn["kind"] == GIVEN for turn in record["turns"]):
            sources.add(record["source"])
        sets = examples.find_turn_sets(record, config.mixture)
        num_left_out += not sets
        return sets

    turns, held_out = scan.find_turns_by_set(
        source.texts(),
        find_sets,
        held_out_share=config.progress.held_out,
        max_held_out=config.progress.max_held_out,
    )
    config.mixture.check_sets(turns, sources)
    rows_of_file: dict[str, set[int]] = {}
    for address in (address for addresses in turns.values() for address in addresses):
        rows_of_file.setdefault(address.file, set()).add(address.row)
    files = sorted(rows_of_file)
    numbers = {file: number for number, file in enumerate(files)}
    return TrainingData(
        files=tuple(
            FileRows(address=file, rows=tuple(sorted(rows_of_file[file]))) for file in files
        ),
        held_out=held_out,
        quantiles={},
        read=source.read,
        sets=tuple(
            TurnSet.from_list(
                name, [(numbers[address.file], address.row, address.place) for address in addresses]
            )
            for name, addresses in turns.items()
        ),
        num_left_out=num_left_out,
        num_follow_ups=num_follow_ups,
    )


def _count_follow_ups(record: Record) -> int:
    """The usable turns of a record that follow others."""
    return sum(turn["kind"] == FOLLOW_UP and turn["status"] == "ok" for turn in record["turns"])


def choose_prompt(data: TrainingData, max_pixels: int) -> tuple[Record, str] | None:
    """One of the first images to learn from, and what the model can be asked about it.

    None where none of them can be decoded.

    Args:
        data: to learn from.
        max_pixels: to which larger images are shrunk.

    Raises:
        C3LError: they cannot be read.
    """
    first = data.files[0]
    for record in data.read(first.address, first.rows[:NUM_FIRST_IMAGES]):
        try:
            decode_image(record["image"], max_pixels)
        except UnusableImage:
            continue
        turn = next((turn for turn in record["turns"] if turn["status"] == "ok"), None)
        if turn is None:
            return record, CAPTION_INSTRUCTION
        instruction = c3l.asking_instruction(turn["kind"], turn["instruction"])
        return record, instruction or turn["question"] or CAPTION_INSTRUCTION
    return None


def summarize_mixture(data: TrainingData, config: TrainConfig) -> dict[str, dict[str, Any]]:
    """For each set its number of turns and its share of the draws, for people to read."""
    return {
        turn_set.name: {"turns": len(turn_set.turns), "share": round(share, 4)}
        for turn_set, share in zip(data.sets, data.set_shares(config), strict=True)
    }
