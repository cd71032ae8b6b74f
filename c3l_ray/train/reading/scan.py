"""What of records can be learnt from, seen without their images: passes over some columns."""

import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np

from c3l_ray.inputs.formats import llava_json
from c3l_ray.methods import labels, ranking
from c3l_ray.methods.i2c import Floats
from c3l_ray.methods.scores import RankedBy
from c3l_ray.schema import Record
from c3l_ray.train.reading.order import FileRows


class TextRecord(Record, total=False):
    """A record without its image.

    Attributes:
        picture: a digest of the image's bytes, where they were read beside the texts.
    """

    picture: str


RecordFiles = Iterable[tuple[str, list[Record]]]
"""Addresses of files, and the records of each without their images."""

PICTURE_DIGEST_BYTES = 16
MAX_QUANTILES = 4096  # values of a kind that are kept: they travel to every reading task


class TurnAddress(NamedTuple):
    """A turn: the address of its file, its row there, and its place in the record."""

    file: str
    row: int
    place: int


def collect_score_quantiles(files: RecordFiles, by: RankedBy) -> dict[str, Floats]:
    """The sorted values of each kind's turns, thinned evenly where there are many.

    Args:
        files: of records, with `kind`, `status` and this score of each turn.
        by: the score.
    """
    values_of_kind: dict[str, list[float]] = defaultdict(list)
    for _, records in files:
        for turn in (turn for record in records for turn in record["turns"]):
            value = labels.ranking_value(turn, by)
            if value is not None:
                values_of_kind[turn["kind"]].append(value)
    quantiles = {}
    for kind, values in values_of_kind.items():
        ordered = np.sort(np.asarray(values, dtype=np.float64))
        places = np.linspace(0, len(ordered) - 1, min(len(ordered), MAX_QUANTILES)).round()
        quantiles[kind] = ordered[places.astype(int)]
    return quantiles


def find_usable_rows(
    files: RecordFiles,
    is_usable: Callable[[Record], bool],
    *,
    held_out_share: float,
    max_held_out: int,
) -> tuple[tuple[FileRows, ...], tuple[FileRows, ...]]:
    """The rows to learn from, and those to evaluate on.

    A picture is held out by its name: the same ones in every run, whatever the order of files, with
    all records that name it (`name_picture`). Those beyond the limit are left out of both.

    Args:
        files: of the records.
        is_usable: whether a record, without its image, can be learnt from.
        held_out_share: of the images, to evaluate on.
        max_held_out: images to evaluate on at most.
    """
    to_learn: list[FileRows] = []
    held_out: list[FileRows] = []
    for address, records in files:
        usable = [row for row, record in enumerate(records) if is_usable(record)]
        learnt_rows, held_out_rows = _split_rows(records, usable, held_out_share)
        to_learn.append(FileRows(address=address, rows=learnt_rows))
        held_out.append(FileRows(address=address, rows=held_out_rows))
    return _drop_empty(to_learn), _take_first(held_out, max_held_out)


def find_turns_by_set(
    files: RecordFiles,
    find_sets: Callable[[Record], Mapping[int, str]],
    *,
    held_out_share: float,
    max_held_out: int,
) -> tuple[dict[str, list[TurnAddress]], tuple[FileRows, ...]]:
    """The turns to learn from, set by set, and the rows to evaluate on.

    Images are held out as by `find_usable_rows`.

    Args:
        files: of the records.
        find_sets: the places of a record's turns that can be learnt, and the set of each.
        held_out_share: of the images, to evaluate on.
        max_held_out: images to evaluate on at most.
    """
    turns: dict[str, list[TurnAddress]] = defaultdict(list)
    held_out: list[FileRows] = []
    for address, records in files:
        sets = {row: of for row, record in enumerate(records) if (of := find_sets(record))}
        learnt_rows, held_out_rows = _split_rows(records, sets, held_out_share)
        held_out.append(FileRows(address=address, rows=held_out_rows))
        for row in learnt_rows:
            for place, name in sets[row].items():
                turns[name].append(TurnAddress(address, row, place))
    return dict(sorted(turns.items())), _take_first(held_out, max_held_out)


def name_picture(record: Record) -> str:
    """What names a picture: its file as a LLaVA sample names it, else a digest of its bytes.

    The files of LLaVA's data are about the same pictures, and their samples have other ids. Parquet
    with a question a row repeats a picture under other ids too. Where the bytes were not read, as
    of runs, it is the image's id.

    Args:
        record: with `image_id` and `meta`.
    """
    file_name = llava_json.find_image_name(record["meta"])
    if file_name is None:
        return cast(TextRecord, record).get("picture", record["image_id"])
    return posixpath.normpath(file_name).encode("utf-8", "replace").decode()


def _split_rows(
    records: Sequence[Record], usable: Iterable[int], held_out_share: float
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The usable rows to learn from, and those that are held out."""
    learnt_rows: list[int] = []
    held_out_rows: list[int] = []
    for row in usable:
        number = ranking.uniform_from(f"held out {name_picture(records[row])}")
        (held_out_rows if number < held_out_share else learnt_rows).append(row)
    return tuple(learnt_rows), tuple(held_out_rows)


def _take_first(files: Iterable[FileRows], max_rows: int) -> tuple[FileRows, ...]:
    """The first rows of all, so many at most."""
    first_files: list[FileRows] = []
    for file in files:
        rows = file.rows[:max_rows]
        first_files.append(FileRows(address=file.address, rows=rows))
        max_rows -= len(rows)
    return _drop_empty(first_files)


def _drop_empty(files: Iterable[FileRows]) -> tuple[FileRows, ...]:
    return tuple(file for file in files if file.rows)
