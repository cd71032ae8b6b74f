"""What of a run's records can be learnt from, seen without its images: two passes over columns."""

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from c3l_ray.data.commit import Manifest, Output
from c3l_ray.methods import labels, ranking
from c3l_ray.methods.i2c import Floats

Rows = list[tuple[str, tuple[int, ...]]]  # a file as `named` names it, and numbers of its rows

_TURN = "turns.list.element"
MOST_STANDINGS = 4096  # values of a kind that are kept: they travel to every reading task


def standings(source: Output, manifests: Iterable[Manifest], by: str) -> dict[str, Floats]:
    """The sorted values of each kind's turns, thinned evenly where there are many."""
    of_kind: dict[str, list[float]] = defaultdict(list)
    columns = [f"{_TURN}.{name}" for name in ("kind", "status", f"scores.{by}")]
    for _, records in _scanned(source, manifests, columns):
        for turn in (turn for record in records for turn in record["turns"]):
            value = labels.value(turn, by)
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
    left = max_held_out
    for manifest, records in _scanned(source, manifests, columns):
        good = [(row, record) for row, record in enumerate(records) if usable(record)]
        apart = [
            row
            for row, record in good
            if ranking.chance(f"held out {record['image_id']}") < held_out
        ]
        learn.append((named(manifest), tuple(row for row, _ in good if row not in apart)))
        evaluate.append((named(manifest), tuple(apart[:left])))
        left -= len(apart[:left])
    return [part for part in learn if part[1]], [part for part in evaluate if part[1]]


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


def _scanned(
    source: Output, manifests: Iterable[Manifest], columns: list[str]
) -> Iterator[tuple[Manifest, list[dict[str, Any]]]]:
    with_file = [manifest for manifest in manifests if manifest.file]
    with ThreadPoolExecutor(8) as readers:
        tables = readers.map(functools.partial(source.records, columns=columns), with_file)
        for manifest, table in zip(with_file, tables, strict=True):
            yield manifest, table.to_pylist()
