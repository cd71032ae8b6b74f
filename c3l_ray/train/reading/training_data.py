"""Which rows of a source are learnt from and held out, and what orders and labels them."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from c3l_ray.errors import PreflightError, UnusableImage
from c3l_ray.images import decode_image
from c3l_ray.methods import c3l
from c3l_ray.methods.answers import LEFT_OUT_REASONS, AnswerPair
from c3l_ray.methods.cgvlm import CAPTION_INSTRUCTION
from c3l_ray.methods.labels import ScoreQuantiles
from c3l_ray.methods.scores import RankedBy, columns_of_answers
from c3l_ray.runs.counts import list_counts
from c3l_ray.schema import FOLLOW_UP, GIVEN, Record
from c3l_ray.train.reading import examples, scan
from c3l_ray.train.reading.answer_pairs import find_pairs
from c3l_ray.train.reading.mixture import TurnSet, compute_set_shares
from c3l_ray.train.reading.order import FileRows, count_images
from c3l_ray.train.reading.sources import RecordsSource, Source
from c3l_ray.train.training_config import TrainConfig

NUM_FIRST_IMAGES = 8  # of which one is asked about
ANSWERS_SET = "questions with different answers"

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
        sets: turns of the files to learn from, where the objective draws turns.
        num_left_out: images of the source that have nothing for the objective to learn.
        num_follow_ups: usable turns that follow others of their conversation, and are not learnt.
        left_out_turns: usable turns that the objective answers does not learn, by reason.
        filler: a record that can be learnt from, for batches that have none.
    """

    files: tuple[FileRows, ...]
    held_out: tuple[FileRows, ...]
    quantiles: ScoreQuantiles
    read: ReadRows
    sets: tuple[TurnSet, ...] = ()
    num_left_out: int = 0
    num_follow_ups: int = 0
    left_out_turns: dict[str, int] = field(default_factory=dict)
    filler: Record | None = None

    @property
    def epoch_size(self) -> int:
        """Examples that an epoch draws: images, or the questions of the objective answers."""
        if any(turn_set.name == ANSWERS_SET for turn_set in self.sets):
            return sum(len(turn_set.turns) for turn_set in self.sets)
        return count_images(self.files)

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
    if config.objective == "answers":
        data = _load_answer_pairs(source, config)
    elif spec.draws_single_turns:
        data = _load_single_turns(source, config)
    else:
        data = _load_whole_records(source, config)
    if data.num_follow_ups:
        log.warning(
            "%d turns follow others of their conversation and are not learnt: they would be asked "
            "without the turns before them",
            data.num_follow_ups,
        )
    if data.epoch_size < config.optim.batch_size:
        what = "questions" if config.objective == "answers" else "images"
        requirement = spec.requirement.format(
            labels_by=config.flag("labels.by"), answers_by=config.flag("answers.by")
        )
        raise PreflightError(
            f"{config.named_input}: {data.epoch_size} {what} to learn from, fewer than "
            f"{config.flag('optim.batch_size')} {config.optim.batch_size}; an image needs "
            f"{requirement}, and {data.num_left_out} images have none"
            f"{_explain_left_out(data.left_out_turns)}"
        )
    return data


def _explain_left_out(left_out_turns: dict[str, int]) -> str:
    """Why turns are not learnt, and what to do; empty where none is left out."""
    if not left_out_turns:
        return ""
    return (
        f" (turns left out: {list_counts(left_out_turns)}); jobs.generate --answers K samples "
        "more answers to each question"
    )


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
    files, sets = _number_files(turns)
    return TrainingData(
        files=files,
        held_out=held_out,
        quantiles={},
        read=source.read,
        sets=sets,
        num_left_out=num_left_out,
        num_follow_ups=num_follow_ups,
    )


def _load_answer_pairs(source: Source, config: TrainConfig) -> TrainingData:
    """Questions whose answers differ, each once an epoch."""
    assert isinstance(source, RecordsSource), "only a run has scores"
    num_left_out = 0
    left_out: Counter[str] = Counter()

    def find_sets(record: Record) -> dict[int, str]:
        nonlocal num_left_out
        pairs = find_pairs(record, config.answers)
        left_out.update(reason for reason in pairs.values() if not isinstance(reason, AnswerPair))
        sets = {place: ANSWERS_SET for place, pair in pairs.items() if isinstance(pair, AnswerPair)}
        num_left_out += not sets
        return sets

    scores = columns_of_answers(config.answers.score)
    alternative = "alternatives.list.element"
    records = source.read_columns(
        ("image_id", "status", "meta"),
        (
            *("kind", "status", "question", "answer", "draft", "correction.outcome"),
            *(f"{alternative}.{name}" for name in ("answer", "status", "num_samples")),
            *(f"scores.{score}" for score in scores),
            *(f"draft_scores.{score}" for score in scores),
            *(f"{alternative}.scores.{score}" for score in scores),
        ),
    )
    turns, held_out = scan.find_turns_by_set(
        records,
        find_sets,
        held_out_share=config.progress.held_out,
        max_held_out=config.progress.max_held_out,
    )
    files, sets = _number_files(turns)
    left_out_turns = {str(name): left_out[name] for name in LEFT_OUT_REASONS if left_out[name]}
    log.info(
        "%d questions to learn from; turns left out: %s",
        sum(len(turn_set.turns) for turn_set in sets),
        list_counts(left_out_turns),
    )
    return TrainingData(
        files=files,
        held_out=held_out,
        quantiles={},
        read=source.read,
        sets=sets,
        num_left_out=num_left_out,
        left_out_turns=left_out_turns,
    )


def _number_files(
    turns: Mapping[str, Sequence[scan.TurnAddress]],
) -> tuple[tuple[FileRows, ...], tuple[TurnSet, ...]]:
    """The rows that hold the turns of some sets, and the sets, whose files are numbered."""
    rows_of_file: dict[str, set[int]] = {}
    for address in (address for addresses in turns.values() for address in addresses):
        rows_of_file.setdefault(address.file, set()).add(address.row)
    files = sorted(rows_of_file)
    numbers = {file: number for number, file in enumerate(files)}
    file_rows = (FileRows(address=file, rows=tuple(sorted(rows_of_file[file]))) for file in files)
    sets = (
        TurnSet.from_list(
            name, [(numbers[address.file], address.row, address.place) for address in addresses]
        )
        for name, addresses in turns.items()
    )
    return tuple(file_rows), tuple(sets)


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
