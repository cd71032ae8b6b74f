"""Judges the turns of records by the scenes that travel in their `meta`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import pyarrow as pa

from c3l_ray.runs.commit import read_manifests, read_records
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes.draw import Scene
from c3l_ray.scenes.truth import TRUE, Truth, judge_turn
from c3l_ray.schema import Record, Turn


@dataclass(frozen=True, kw_only=True)
class JudgedTurn:
    """A turn of status ok.

    Attributes:
        image: "source key", for people.
        truth: None where the image is no scene.
        turn: as its record has it.
    """

    image: str
    truth: Truth | None
    turn: Turn

    def score(self, name: str) -> float | None:
        """A score of the turn; None where it is not defined for the answer."""
        scores = cast(Mapping[str, float | None], self.turn["scores"] or {})
        return scores.get(name)


def judge_turns(tables: Iterable[pa.Table]) -> Iterator[JudgedTurn]:
    """Judges every turn of status ok in tables of the schema RECORDS."""
    for table in tables:
        records: list[Record] = table.select(["source", "key", "meta", "turns"]).to_pylist()
        for record in records:
            scene = parse_scene(record["meta"])
            for turn in record["turns"]:
                if turn["status"] != "ok":
                    continue
                truth = None
                if scene is not None:
                    truth = judge_turn(scene, turn["question"], turn["answer"])
                image = f"{record['source']} {record['key']}"
                yield JudgedTurn(image=image, truth=truth, turn=turn)


def judge_run(folder: RunFolder) -> list[JudgedTurn]:
    """Judges every turn of status ok in a run."""
    manifests = (manifest for manifest in read_manifests(folder) if manifest.file)
    return list(judge_turns(read_records(folder, manifest) for manifest in manifests))


def count_truths(turns: Iterable[JudgedTurn]) -> Counter[Truth]:
    """How many turns about scenes are true, false and unknown."""
    return Counter(turn.truth for turn in turns if turn.truth is not None)


def true_share(turns: Iterable[JudgedTurn]) -> float | None:
    """The true share of the turns about scenes, or None without any; unknown counts as not true."""
    counts = count_truths(turns)
    return counts[TRUE] / counts.total() if counts else None


def parse_scene(meta: str | None) -> Scene | None:
    """The scene in a record's `meta`, or None where it holds none."""
    try:
        return None if meta is None else Scene.from_json(meta)
    except (ValueError, KeyError, TypeError):
        return None
