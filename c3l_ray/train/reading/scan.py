"""What of records can be learnt from, seen without their images: passes over some columns."""

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from c3l_ray.runs.folder import Manifest, Output
from c3l_ray.methods import labels, ranking
from c3l_ray.methods.i2c import Floats

Rows = list[tuple[str, tuple[int, ...]]]  # a file as `named` names it, and numbers of its rows
Turns = dict[str, list[tuple[str, int, int]]]  # by set: a file, a row of it, a turn of the row
Scanned = Iterable[tuple[str, list[dict[str, Any]]]]  # files, and their records without images

_TURN = "turns.list.element"
MOST_STANDINGS = 4096  # values of a kind that are kept: they travel to every reading task


def standings(source: Output, manifests: Iterable[Manifest], by: str) -> dict[str, Floats]:
    """The sorted values of each kind's turns, thinned evenly where there are many."""
    of_kind: dict[str, list[float]] = defaultdict(list)
    columns = [f"{_TURN}.{name}" for name in ("kind", "status", f"scores.{by}")]
    for _, records in scanned(source, manifests, columns):
        for turn in (turn for record in records for turn in record["turns"]):
            value = labels.ranking_value(turn, by)
            if value is not None:
                of_kind[turn["kind"]].append(value)
    found = {}
    for kind, values in of_kind.items():
        ordered = np.sort(np.asarray(values, dtype=np.float64))
        picked = np.linspace(0, len(ordered) - 1, min(len(ordered), MOST_STANDINGS)).round()
        found[kind] = ordered[picked.astype(int)]
    return found


def rows(
    source: Output,
    manifests: Iterable[Manifest],
    usable: Callable[[dict[str, Any]], bool],
    *,
    scores: Sequence[str],
    held_out: float,
    max_held_out: int,
) -> tuple[Rows, Rows]:
    """The rows to learn from, and those to evaluate on.

    An image is held out by its id: the same ones in every run, whatever the order of files. Those
    over the most are left out of both.

    Args:
        source: the records.
        manifests: of their files.
        usable: whether a record, without its image, can be learnt from.
        scores: names of the scores that `usable` looks at.
        held_out: share to evaluate on.
        max_held_out: images of it at most.
    """
    turn = ("kind", "status", "question", "answer", *(f"scores.{name}" for name in scores))
    columns = ["image_id", "status", "caption", *(f"{_TURN}.{name}" for name in turn)]
    learn: Rows = []
    evaluate: Rows = []
    for name, records in scanned(source, manifests, columns):
        good = [row for row, record in enumerate(records) if usable(record)]
        kept, apart = _split(records, good, held_out)
        learn.append((name, kept))
        evaluate.append((name, apart))
    return _filled(learn), _first(evaluate, max_held_out)


def turns(
    files: Scanned,
    sets: Callable[[dict[str, Any]], Mapping[int, str]],
    *,
    held_out: float,
    max_held_out: int,
) -> tuple[Turns, Rows]:
    """The turns to learn from, set by set, and the rows to evaluate on, chosen as `rows` does.

    Args:
        files: of the records.
        sets: the places of a record's turns that can be learnt, and the set of each.
        held_out: share of the images to evaluate on.
        max_held_out: images of it at most.
    """
    learn: Turns = defaultdict(list)
    evaluate: Rows = []
    for name, records in files:
        found = {row: of for row, record in enumerate(records) if (of := sets(record))}
        kept, apart = _split(records, found, held_out)
        evaluate.append((name, apart))
        for row in kept:
            for place, its in found[row].items():
                learn[its].append((name, row, place))
    return dict(sorted(learn.items())), _first(evaluate, max_held_out)


def texts(source: Output, manifests: Iterable[Manifest]) -> Scanned:
    """A run's records with what was asked and said, and without images and scores."""
    turn = (f"{_TURN}.{name}" for name in ("kind", "status", "question", "answer"))
    return scanned(source, manifests, ["image_id", "source", "status", *turn])


def named(manifest: Manifest) -> str:
    """A committed file's name and its digest, which is all that reading it takes."""
    return f"{manifest.file} {manifest.digest}"


def read(source: Output, name: str, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of a file that `named` names, by their numbers.

    Raises:
        C3LError: the file cannot be read or is damaged.
    """
    file, digest = name.split(" ")
    manifest = Manifest(unit="", source="", origin="", attempt="", file=file, digest=digest)
    records: list[dict[str, Any]] = source.records(manifest).take(list(rows)).to_pylist()
    return records


def scanned(
    source: Output, manifests: Iterable[Manifest], columns: list[str]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Some columns of a run's records, file by file as `named` names them."""
    with_file = [manifest for manifest in manifests if manifest.file]
    with ThreadPoolExecutor(8) as readers:
        tables = readers.map(functools.partial(source.records, columns=columns), with_file)
        for manifest, table in zip(with_file, tables, strict=True):
            yield named(manifest), table.to_pylist()


def _split(
    records: Sequence[Mapping[str, Any]], good: Iterable[int], held_out: float
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The rows of some images that stay, and those that are held out."""
    kept: list[int] = []
    apart: list[int] = []
    for row in good:
        lot = ranking.uniform_from(f"held out {records[row]['image_id']}")
        (apart if lot < held_out else kept).append(row)
    return tuple(kept), tuple(apart)


def _first(parts: Rows, most: int) -> Rows:
    """The first rows of all, so many at most."""
    found: Rows = []
    for name, rows in parts:
        found.append((name, rows[:most]))
        most -= len(rows[:most])
    return _filled(found)


def _filled(parts: Rows) -> Rows:
    return [part for part in parts if part[1]]
