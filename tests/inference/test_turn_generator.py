"""Generate with an engine double: what it asks, and what it makes of replies."""

import asyncio
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from c3l_ray.config import GenerateConfig
from c3l_ray.errors import EngineFailure, RefusedRequest
from c3l_ray.inference.engine import Decoding, Reply
from c3l_ray.inference.turn_generator import Generate, read
from c3l_ray.methods import c3l
from c3l_ray.schema import STAGED_ROWS, conform


class Recorded:
    """Answers by a function of the seed, and remembers what it was asked."""

    def __init__(self, answer: Callable[[int], str] | Exception) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.now = self.most = 0

    async def ask(
        self,
        prompt_ids: list[int],
        image: Image.Image,
        *,
        image_key: str,
        seed: int,
        schema: dict[str, Any] | None = None,
        decoding: Decoding | None = None,
    ) -> Reply:
        assert decoding is None  # nothing is corrected here
        asked = {"ids": prompt_ids, "size": image.size, "image_key": image_key, "seed": seed}
        self.asked.append({**asked, "schema": schema})
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return Reply(text=self.answer(seed), finish="stop", num_tokens=7)


def flow(images: list[bytes | None], errors: list[str | None] | None = None) -> pa.Table:
    count = len(images)
    return conform(
        {
            "image_id": [f"image {i}" for i in range(count)],
            "key": [str(i) for i in range(count)],
            "source": ["a.tar"] * count,
            "image": images,
            "error": errors or [None] * count,
            "unit": ["u"] * count,
            "unit_rows": [count] * count,
        },
        STAGED_ROWS,
    )


def generated(
    config: GenerateConfig, engine: Recorded, *tables: pa.Table
) -> list[list[dict[str, Any]]]:
    async def call() -> list[pa.Table]:
        generate = Generate(config, engine)
        return list(await asyncio.gather(*(generate(table) for table in tables)))

    out = asyncio.run(call())
    assert all(table.schema.equals(STAGED_ROWS) for table in out)
    return [table.to_pylist() for table in out]


Make = Callable[..., GenerateConfig]
Encoded = Callable[..., bytes]


def test_an_image_is_asked_its_own_requests_with_one_begin(config: Make, encoded: Encoded) -> None:
    engine = Recorded(lambda seed: f"Question: {seed}? Answer: Yes.")
    ((row,),) = generated(config(), engine, flow([encoded()]))
    requests = c3l.plan_requests("image 0", 5)
    assert [asked["seed"] for asked in engine.asked] == [request.seed for request in requests]
    assert {asked["image_key"] for asked in engine.asked} == {"image 0"}
    begin = 1  # the shipped tokenizer's <s>
    assert all(a["ids"][0] == begin and a["ids"].count(begin) == 1 for a in engine.asked)
    assert [turn["question"] for turn in row["turns"]] == [f"{r.seed}?" for r in requests]
    assert [turn["kind"] for turn in row["turns"]] == [request.kind for request in requests]
    assert row["error"] is None and row["generate_s"] > 0


def test_json_is_asked_for_with_its_schema(config: Make, encoded: Encoded) -> None:
    engine = Recorded(lambda seed: f'{{"question": "{seed}?", "answer": "Yes."}}')
    ((row,),) = generated(config(reply_format="json"), engine, flow([encoded()]))
    assert [turn["status"] for turn in row["turns"]] == ["ok"] * 5
    assert all(asked["schema"] == c3l.REPLY_JSON_SCHEMA for asked in engine.asked)
    assert all(turn["instruction"].endswith(c3l.FORMAT_REQUESTS["json"]) for turn in row["turns"])


def test_several_units_fill_the_engine_at_once(config: Make, encoded: Encoded) -> None:
    engine = Recorded(lambda seed: f"Question: {seed}? Answer: Yes.")
    units = generated(config(), engine, *(flow([encoded()] * 2) for _ in range(3)))
    assert engine.most > 2 * 5  # more than one unit alone
    assert all(len(row["turns"]) == 5 for unit in units for row in unit)


def test_images_are_shrunk_to_the_bound_before_they_are_asked(
    config: Make, encoded: Encoded
) -> None:
    engine = Recorded(lambda seed: "Question: a? Answer: b.")
    generated(config(max_pixels=100), engine, flow([encoded(size=(40, 40))]))
    assert {asked["size"] for asked in engine.asked} == {(10, 10)}


def test_bad_images_fail_alone(config: Make, encoded: Encoded) -> None:
    engine = Recorded(lambda seed: f"Question: {seed}? Answer: Yes.")
    images = [b"", encoded(), b"text", None, encoded()]
    errors = [None, None, None, "no_image: none", "no_image: given by the reader"]
    (rows,) = generated(config(), engine, flow(images, errors))
    assert [(row["error"] or "ok").split(":")[0] for row in rows] == [
        "empty",
        "ok",
        "undecodable",
        "no_image",
        "no_image",
    ]
    assert [len(row["turns"]) for row in rows] == [0, 5, 0, 0, 0]


def test_an_image_without_a_good_turn_fails_and_keeps_its_replies(
    config: Make, encoded: Encoded
) -> None:
    ((row,),) = generated(config(), Recorded(lambda _: "I see a cat."), flow([encoded()]))
    assert row["error"] == "no_turn: unparsable"
    assert [turn["reply"] for turn in row["turns"]] == ["I see a cat."] * 5


def test_a_refused_request_fails_its_image(config: Make, encoded: Encoded) -> None:
    ((row,),) = generated(config(), Recorded(RefusedRequest("too long")), flow([encoded()]))
    assert row["error"] == "refused: too long"
    assert {turn["status"] for turn in row["turns"]} == {"refused"}


def test_a_turn_with_a_special_token_could_not_be_asked_again() -> None:
    replies = [
        Reply(text="Question: Is <image> red? Answer: Yes.", finish="stop", num_tokens=9),
        RefusedRequest("too long"),
        Reply(text="Question: Is it red? Answer: Yes.", finish="stop", num_tokens=9),
    ]
    turns = read(c3l.plan_requests("image", 3), replies, {"<image>", "</s>"})
    assert [turn["status"] for turn in turns] == ["unparsable", "refused", "ok"]
    assert turns[1]["reply"] == "too long"


def test_a_dead_engine_is_no_row_error(config: Make, encoded: Encoded) -> None:
    with pytest.raises(EngineFailure):
        generated(config(), Recorded(EngineFailure("gone")), flow([encoded()]))


def test_every_reply_has_its_status() -> None:
    replies = [
        Reply(text="Question: A? Answer: B.", finish="stop", num_tokens=1),
        Reply(text="Question: a? Answer: C.", finish="stop", num_tokens=2),
        Reply(text="Question: D? Answer:", finish="stop", num_tokens=3),
        Reply(text="Who knows", finish="stop", num_tokens=4),
        Reply(text="Question: E? Answer: and so", finish="length", num_tokens=5),
    ]
    turns = read(c3l.plan_requests("image", 5), replies, {"<image>"})
    assert [turn["status"] for turn in turns] == [
        "ok",
        "duplicate",
        "empty",
        "unparsable",
        "truncated",
    ]
    assert [turn["reply"] is None for turn in turns] == [True, True, False, False, False]
    assert [turn["num_tokens"] for turn in turns] == [1, 2, 3, 4, 5]
