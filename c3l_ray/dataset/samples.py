"""Samples: what a dataset has a row for, made of the chosen turns of a record.

A sample is a conversation, of one turn or of all the chosen ones of an image, or a preference pair.
Its columns are those that the Hugging Face libraries, TRL and ms-swift read: `images` and
`messages`, for pairs `prompt`, `chosen` and `rejected` too. No message holds a marker for the
image: TRL and ms-swift put the image before the first question themselves.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from c3l_ray.dataset.preference import PreferencePair
from c3l_ray.inputs.formats.image_files import find_image_name
from c3l_ray.methods import c3l
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.schema import Record, Turn

Messages = list[dict[str, str]]


class Sample(NamedTuple):
    """Turns of an image that belong together.

    Attributes:
        id: that the input had where it had one, else the image's; with the turn's place after it
            where a record has several samples.
        turns: chosen ones of the record, under one system message.
        places: of these among all turns of the record.
    """

    id: str
    turns: list[Turn]
    places: list[int]


def make_samples(
    record: Record, places: Sequence[int], num_turns: int, group: str
) -> Iterator[Sample]:
    """The samples of a record.

    Args:
        record: with its chosen turns only.
        places: of these among all turns of the record.
        num_turns: of the record, chosen or not.
        group: "turn" for a sample of each turn, "image" for one of all of them. Turns under
            another system message than those before them begin a sample of their own.
    """
    own_id = find_own_id(record["meta"]) or record["image_id"]
    numbered = list(zip(places, record["turns"], strict=True))
    if group == "turn":
        for place, turn in numbered:
            yield Sample(own_id if num_turns == 1 else f"{own_id}-{place}", [turn], [place])
        return
    groups = [list(of_system) for _, of_system in groupby(numbered, lambda item: _system(item[1]))]
    for members in groups:
        first = members[0][0]
        yield Sample(
            own_id if len(groups) == 1 else f"{own_id}-{first}",
            [turn for _, turn in members],
            [place for place, _ in members],
        )


def find_own_id(meta: str | None) -> str | None:
    """The id of the sample that a record was made of, or None where it had none."""
    try:
        content = json.loads(meta or "null")
    except (ValueError, RecursionError):
        return None
    own_id = content.get("id") if isinstance(content, dict) else None
    if isinstance(own_id, bool) or not isinstance(own_id, str | int):
        return None
    return str(own_id).encode("utf-8", "replace").decode() or None


def make_conversation_row(
    record: Record, sample: Sample, *, is_list: bool, image_path: str | None = None
) -> dict[str, Any]:
    """A row of the schema `columns.conversation_schema`.

    Args:
        record: that the sample is of.
        sample: to write.
        is_list: whether the columns of a turn hold lists, an element for each turn.
        image_path: that names the image where the record has no bytes of it.
    """
    first = sample.turns[0]
    columns = [
        {
            "kind": turn["kind"],
            "turn_id": f"{record['image_id']}-{place}",
            "instruction": turn["instruction"],
            "draft": turn.get("draft"),
            **dict.fromkeys(SCORE_NAMES),
            **(turn.get("scores") or {}),
        }
        for turn, place in zip(sample.turns, sample.places, strict=True)
    ]
    of_turns: dict[str, Any] = (
        {name: [of_turn[name] for of_turn in columns] for name in columns[0]}
        if is_list
        else columns[0]
    )
    return {
        **_row_of_record(record, sample, image_path),
        "messages": [
            *_system_messages(first),
            *(message for turn in sample.turns for message in _exchange(turn)),
        ],
        **of_turns,
    }


def make_preference_row(
    record: Record, sample: Sample, pair: PreferencePair, *, image_path: str | None = None
) -> dict[str, Any]:
    """A row of the schema `columns.PREFERENCE`: a pair of answers to a sample's only question."""
    (turn,), (place,) = sample.turns, sample.places
    prompt = [*_system_messages(turn), {"role": "user", "content": turn["question"] or ""}]
    chosen = [{"role": "assistant", "content": pair.chosen}]
    return {
        **_row_of_record(record, sample, image_path),
        "prompt": prompt,
        "chosen": chosen,
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        "messages": prompt + chosen,
        "rejected_response": pair.rejected,
        "kind": turn["kind"],
        "turn_id": f"{record['image_id']}-{place}",
        "instruction": turn["instruction"],
        "pair": pair.source,
        "chosen_score": pair.chosen_score,
        "rejected_score": pair.rejected_score,
    }


def name_image(record: Record) -> str:
    """What names the image of a record without it: its LLaVA sample's file, or shard and key."""
    return find_image_name(record["meta"]) or f"{record['source']}/{record['key']}"


def _row_of_record(record: Record, sample: Sample, image_path: str | None) -> dict[str, Any]:
    return {
        "id": sample.id,
        "images": [{"bytes": record["image"], "path": image_path}],
        "image_id": record["image_id"],
        "source": record["source"],
        "key": record["key"],
        "caption": record["caption"],
        "meta": record["meta"],
    }


def _exchange(turn: Turn) -> Messages:
    question, answer = turn.get("question") or "", turn.get("answer") or ""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _system(turn: Turn) -> str:
    return c3l.system_message(turn["kind"], turn["instruction"])


def _system_messages(turn: Turn) -> Messages:
    system = _system(turn)
    return [{"role": "system", "content": system}] if system else []
