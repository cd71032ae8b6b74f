"""Records about scenes against the truth that travels in their `meta`."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from c3l_ray.scenes.draw import Scene
from c3l_ray.scenes.truth import TRUE, judge


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One good turn of a record.

    Attributes:
        image: "source key", for people.
        truth: "true", "false" or "unknown"; None where the image is no scene.
        turn: the turn as the record has it.
    """

    image: str
    truth: str | None
    turn: dict[str, Any]


def judged(tables: Iterable[pa.Table]) -> Iterator[Judged]:
    """Every turn of status ok in tables of the schema RECORDS."""
    for table in tables:
        for row in table.select(["source", "key", "meta", "turns"]).to_pylist():
            scene = scene_of(row["meta"])
            for turn in row["turns"]:
                if turn["status"] == "ok":
                    truth = None if scene is None else judge(scene, turn)
                    yield Judged(image=f"{row['source']} {row['key']}", truth=truth, turn=turn)


def truths(turns: Iterable[Judged]) -> Counter[str]:
    """How many turns about scenes are true, false and unknown."""
    return Counter(turn.truth for turn in turns if turn.truth is not None)


def truthful_share(turns: Iterable[Judged]) -> float | None:
    """The true share of the turns about scenes, the unknown counted as not true; or None."""
    counts = truths(turns)
    return counts[TRUE] / counts.total() if counts else None


def scene_of(meta: str | None) -> Scene | None:
    """The scene in a row's `meta`, or None where it holds none."""
    try:
        return None if meta is None else Scene.from_json(meta)
    except (ValueError, KeyError, TypeError):
        return None
