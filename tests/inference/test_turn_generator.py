"""TurnGenerator with a scripted engine: what it asks, and what it makes of replies."""

import asyncio
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from c3l_ray.config import GenerateConfig
from c3l_ray.errors import EngineFailure, RefusedRequest
from c3l_ray.inference.engine_protocol import GenerationRequest, Reply
from c3l_ray.inference.reply_reader import ReplyReader
from c3l_ray.inference.scripted_engine import ScriptedEngine
from c3l_ray.inference.turn_generator import TurnGenerator
from c3l_ray.methods import c3l
from c3l_ray.processors import load_processor
from c3l_ray.scenes import world
from c3l_ray.schema import STAGED_ROWS
from tests.inference.builders import EncodeImage, MakeConfig, stage_images


def text_engine(text_of_seed: Callable[[int], str]) -> ScriptedEngine:
    """Replies with a text by the request's seed."""

    def reply_to(request: GenerationRequest) -> Reply:
        assert request.decoding is None  # nothing is corrected here
        return Reply(text=text_of_seed(request.seed), finish_reason="stop", num_tokens=7)

    return ScriptedEngine(reply_to)


def failing_engine(error: Exception) -> ScriptedEngine:
    def reply_to(request: GenerationRequest) -> Reply:
        raise error

    return ScriptedEngine(reply_to)


def generate(
    config: GenerateConfig, engine: ScriptedEngine, *tables: pa.Table
) -> list[list[dict[str, Any]]]:
    """The rows of each table after one generator took all of them at once."""

    async def call() -> list[pa.Table]:
        generator = TurnGenerator(config, engine)
        return list(await asyncio.gather(*(generator(table) for table in tables)))

    generated = asyncio.run(call())
    assert all(table.schema.equals(STAGED_ROWS) for table in generated)
    return [table.to_pylist() for table in generated]


def test_an_image_gets_its_own_requests_with_one_bos(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    engine = text_engine(lambda seed: f"Question: {seed}? Answer: Yes.")
    ((row,),) = generate(config(), engine, stage_images([encoded()]))
    planned = c3l.plan_requests("image 0", 5)
    assert [request.seed for request in engine.requests] == [request.seed for request in planned]
    assert {request.image_key for request in engine.requests} == {"image 0"}
    bos = 1  # the shipped tokenizer's <s>
    assert all(
        request.prompt_ids[0] == bos and request.prompt_ids.count(bos) == 1
        for request in engine.requests
    )
    assert [turn["question"] for turn in row["turns"]] == [f"{r.seed}?" for r in planned]
    assert [turn["kind"] for turn in row["turns"]] == [request.kind for request in planned]
    assert row["error"] is None and row["generate_s"] > 0


def test_json_is_requested_with_its_schema(config: MakeConfig, encoded: EncodeImage) -> None:
    engine = text_engine(lambda seed: f'{{"question": "{seed}?", "answer": "Yes."}}')
    ((row,),) = generate(config(reply_format="json"), engine, stage_images([encoded()]))
    assert [turn["status"] for turn in row["turns"]] == ["ok"] * 5
    assert all(request.json_schema == c3l.REPLY_JSON_SCHEMA for request in engine.requests)
    assert all(turn["instruction"].endswith(c3l.FORMAT_REQUESTS["json"]) for turn in row["turns"])


def test_several_units_fill_the_engine_at_once(config: MakeConfig, encoded: EncodeImage) -> None:
    num_running, num_running_most = 0, 0

    async def reply_to(request: GenerationRequest) -> Reply:
        nonlocal num_running, num_running_most
        num_running += 1
        num_running_most = max(num_running_most, num_running)
        await asyncio.sleep(0.001)
        num_running -= 1
        text = f"Question: {request.seed}? Answer: Yes."
        return Reply(text=text, finish_reason="stop", num_tokens=7)

    tables = [stage_images([encoded()] * 2) for _ in range(3)]
    units = generate(config(), ScriptedEngine(reply_to), *tables)
    assert num_running_most > 2 * 5  # more than one unit alone
    assert all(len(row["turns"]) == 5 for unit in units for row in unit)


def test_images_are_shrunk_to_the_bound_before_they_are_asked_about(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    engine = text_engine(lambda seed: "Question: a? Answer: b.")
    generate(config(max_pixels=100), engine, stage_images([encoded(size=(40, 40))]))
    assert {request.image.size for request in engine.requests} == {(10, 10)}


def test_bad_images_fail_alone(config: MakeConfig, encoded: EncodeImage) -> None:
    engine = text_engine(lambda seed: f"Question: {seed}? Answer: Yes.")
    images = [b"", encoded(), b"text", None, encoded()]
    errors = [None, None, None, "no_image: none", "no_image: given by the reader"]
    (rows,) = generate(config(), engine, stage_images(images, errors))
    assert [(row["error"] or "ok").split(":")[0] for row in rows] == [
        "empty",
        "ok",
        "undecodable",
        "no_image",
        "no_image",
    ]
    assert [len(row["turns"]) for row in rows] == [0, 5, 0, 0, 0]


def test_an_image_without_a_good_turn_fails_and_keeps_its_replies(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    engine = text_engine(lambda seed: "I see a cat.")
    ((row,),) = generate(config(), engine, stage_images([encoded()]))
    assert row["error"] == "no_turn: unparsable"
    assert [turn["reply"] for turn in row["turns"]] == ["I see a cat."] * 5


def test_a_refused_request_fails_its_image(config: MakeConfig, encoded: EncodeImage) -> None:
    engine = failing_engine(RefusedRequest("too long"))
    ((row,),) = generate(config(), engine, stage_images([encoded()]))
    assert row["error"] == "refused: too long"
    assert {turn["status"] for turn in row["turns"]} == {"refused"}


def test_a_dead_engine_is_no_row_error(config: MakeConfig, encoded: EncodeImage) -> None:
    with pytest.raises(EngineFailure):
        engine = failing_engine(EngineFailure("gone"))
        generate(config(), engine, stage_images([encoded()]))


def test_notes_reach_every_row(
    config: MakeConfig, encoded: EncodeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = text_engine(lambda seed: f"Question: {seed}? Answer: Yes.")
    (rows,) = generate(config(), engine, stage_images([encoded(), b""]))
    assert [row["notes"] for row in rows] == [[], []]

    engine.notes.append("the engine's replies are short")
    monkeypatch.setattr("c3l_ray.inference.generator.model_family", lambda *_: "newvlm")
    (rows,) = generate(config(), engine, stage_images([encoded(), b""]))
    name = config().model.name
    untested = f"{name} is of family newvlm, which is untested; compare a few answers by eye"
    assert [row["notes"] for row in rows] == [["the engine's replies are short", untested]] * 2


def shipped_reader() -> ReplyReader:
    return ReplyReader(load_processor(str(world.LLAVA)))


def test_a_turn_with_a_special_token_cannot_be_asked_again() -> None:
    replies: list[Reply | RefusedRequest] = [
        Reply(text="Question: Is <image> red? Answer: Yes.", finish_reason="stop", num_tokens=9),
        RefusedRequest("too long"),
        Reply(text="Question: Is it red? Answer: Yes.", finish_reason="stop", num_tokens=9),
    ]
    turns = shipped_reader().read_turns(c3l.plan_requests("image", 3), replies)
    assert [turn["status"] for turn in turns] == ["unparsable", "refused", "ok"]
    assert turns[1]["reply"] == "too long"


def test_every_reply_has_its_status() -> None:
    replies = [
        Reply(text="Question: A? Answer: B.", finish_reason="stop", num_tokens=1),
        Reply(text="Question: a? Answer: C.", finish_reason="stop", num_tokens=2),
        Reply(text="Question: D? Answer:", finish_reason="stop", num_tokens=3),
        Reply(text="Who knows", finish_reason="stop", num_tokens=4),
        Reply(text="Question: E? Answer: and so", finish_reason="length", num_tokens=5),
    ]
    turns = shipped_reader().read_turns(c3l.plan_requests("image", 5), replies)
    assert [turn["status"] for turn in turns] == [
        "ok",
        "duplicate",
        "empty",
        "unparsable",
        "truncated",
    ]
    assert [turn["reply"] is None for turn in turns] == [True, True, False, False, False]
    assert [turn["num_tokens"] for turn in turns] == [1, 2, 3, 4, 5]
