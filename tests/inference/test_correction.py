"""Correction in Generate: with an engine double every way it can go, and once with the real one."""

import asyncio
import dataclasses
import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from transformers import AutoProcessor

from c3l_ray import chat
from c3l_ray.config import GenerateConfig
from c3l_ray.errors import EngineFailure, RefusedRequest
from c3l_ray.inference.engine import Decoding, Engine, Reply
from c3l_ray.inference.turn_generator import Generate
from c3l_ray.methods import c3l, vigc
from c3l_ray.methods.sentences import split_sentences
from c3l_ray.methods.vigc import CorrectionRules
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene, render
from tests.inference.test_turn_generator import Encoded, Make, flow

DRAFT = "The circle is red. The star is blue."
Round = Callable[[int], str | Exception]


class Rounds:
    """Answers a turn's first request with DRAFT, and its n-th correction by a function of n.

    A round's seed is its turn's and n; a reply that ends with a blank ends at a stop string.
    """

    def __init__(self, round_: Round, question: str = "What is at {seed}?") -> None:
        self.round = round_
        self.question = question
        self.asked: list[tuple[int, int]] = []  # the turn's place in its image, and n
        self.ids: dict[tuple[int, int], list[int]] = {}
        self.slow: int | None = None  # a turn whose rounds take their time
        self.decodings: list[Decoding] = []
        self.seeds: list[int] = []

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
        if decoding is None:
            self.seeds.append(seed)
            text = f"Question: {self.question.format(seed=seed)} Answer: {DRAFT}"
            return Reply(text=text, finish="stop", num_tokens=20)
        assert schema is None  # a correction is plain text, whatever the turn was asked for as
        self.decodings.append(decoding)
        turn, number = min((i, seed - s) for i, s in enumerate(self.seeds) if 0 < seed - s < 20)
        self.ids[turn, number] = prompt_ids
        await asyncio.sleep(0.2 if turn == self.slow else 0.001)
        self.asked.append((turn, number))
        said = self.round(number)
        if isinstance(said, Exception):
            raise said
        return Reply(text=said, finish="stop_string" if said[-1:] == " " else "stop", num_tokens=9)


def corrected(
    config: GenerateConfig, engine: Any, encoded: Encoded, num_images: int = 1
) -> list[dict[str, Any]]:
    """The turns of the images, one after another."""

    async def call() -> list[dict[str, Any]]:
        table = await Generate(config, engine)(flow([encoded()] * num_images))
        return [turn for row in table.to_pylist() for turn in row["turns"]]

    return asyncio.run(call())


def says(*texts: str | Exception) -> Round:
    return lambda number: texts[number - 1]


def test_each_answer_is_asked_anew_and_the_first_is_its_draft(
    config: Make, encoded: Encoded
) -> None:
    engine = Rounds(says("The circle is green. ", "The star is big."))
    turns = corrected(config(method="vigc", turns=3), engine, encoded)
    assert {turn["kind"] for turn in turns} == set(vigc.INSTRUCTIONS)
    for turn in turns:
        assert turn["status"] == "ok" and turn["draft"] == DRAFT
        assert turn["answer"] == "The circle is green. The star is big."
        assert turn["num_tokens"] == 20 + 2 * 9
        # The tokens of the shipped tokenizer in this answer: words and full stops.
        assert turn["correction"] == {
            "ended": "complete",
            "requests": 2,
            "tokens": 18,
            "kept_tokens": 10,
        }
    assert sorted(engine.asked) == [(turn, number) for turn in range(3) for number in (1, 2)]


def test_the_rounds_ask_what_the_loop_says(config: Make, encoded: Encoded) -> None:
    engine = Rounds(says("The circle is green. ", "The star is big."), question="What is red?")
    rules = CorrectionRules(max_tokens=33, temperature=0.25, repetition_penalty=1.5)
    corrected(config(method="vigc", turns=1, correction=rules), engine, encoded)
    tokenizer = AutoProcessor.from_pretrained(world.LLAVA).tokenizer
    prompts = [tokenizer.decode(engine.ids[0, number]) for number in (1, 2)]
    assert all("What is red" in prompt and "Answer" not in prompt for prompt in prompts)
    assert prompts[0].endswith("ASSISTANT:")
    written = tokenizer(" The circle is green.", add_special_tokens=False)["input_ids"]
    assert engine.ids[0, 2] == [*engine.ids[0, 1], *written]
    for decoding in engine.decodings:
        assert decoding == Decoding(
            max_tokens=33, temperature=0.25, repetition_penalty=1.5, stops=vigc.STOPS["sentence"]
        )


def test_c3l_turns_are_corrected_where_it_is_asked_for(config: Make, encoded: Encoded) -> None:
    plain = corrected(config(), Rounds(says()), encoded)
    assert all(turn["draft"] is None and turn["correction"] is None for turn in plain)
    turns = corrected(config(correct=True), Rounds(says("No.")), encoded)
    assert {turn["kind"] for turn in turns} == set(c3l.KINDS)
    assert {(turn["draft"], turn["answer"]) for turn in turns} == {(DRAFT, "No.")}
    assert [turn["instruction"] for turn in turns] == [turn["instruction"] for turn in plain]


def test_a_model_that_says_the_same_gives_the_draft_back(config: Make, encoded: Encoded) -> None:
    first, second = split_sentences(DRAFT)
    turns = corrected(config(correct=True), Rounds(says(f"{first} ", second)), encoded)
    assert all(turn["answer"] == turn["draft"] == DRAFT for turn in turns)


@pytest.mark.parametrize(
    ("said", "answer", "ended", "requests", "tokens"),
    [
        (("",), DRAFT, "nothing", 1, 9),
        ((RefusedRequest("too long"),), DRAFT, "nothing", 1, 0),
        (("The <image> is red.",), DRAFT, "nothing", 1, 9),
        (("It is red. ", RefusedRequest("too long")), "It is red.", "refused", 2, 9),
        (
            (
                "It is red. ",
                "The <image> is.",
            ),
            "It is red.",
            "refused",
            2,
            18,
        ),
        (("It is red. ", "It is red. "), "It is red.", "repeat", 2, 18),
    ],
)
def test_where_correction_ends_early_the_turn_says_so(
    config: Make,
    encoded: Encoded,
    said: tuple[str | Exception, ...],
    answer: str,
    ended: str,
    requests: int,
    tokens: int,
) -> None:
    (turn,) = corrected(config(correct=True, turns=1), Rounds(says(*said)), encoded)
    assert (turn["status"], turn["draft"], turn["answer"]) == ("ok", DRAFT, answer)
    assert turn["num_tokens"] == 20 + tokens
    kept = 0 if ended == "nothing" else 4
    assert turn["correction"] == {
        "ended": ended,
        "requests": requests,
        "tokens": tokens,
        "kept_tokens": kept,
    }


def test_a_turn_that_is_not_ok_is_not_corrected(config: Make, encoded: Encoded) -> None:
    engine = Rounds(says("No."), question="The same?")
    turns = corrected(config(correct=True, turns=3), engine, encoded)
    assert [turn["status"] for turn in turns] == ["ok", "duplicate", "duplicate"]
    assert [turn["correction"] is None for turn in turns] == [False, True, True]
    assert engine.asked == [(0, 1)]


def test_no_round_waits_for_another_turn(config: Make, encoded: Encoded) -> None:
    engine = Rounds(says("A is red. ", "B is red. ", "C is red. ", "D is red."))
    engine.slow = 1
    corrected(config(correct=True, turns=2), engine, encoded, num_images=2)
    assert len(engine.asked) == 16
    others = {each for each in engine.asked[:12]}
    assert others == {(turn, number) for turn in (0, 2, 3) for number in range(1, 5)}


def test_a_dead_engine_is_no_row_error(config: Make, encoded: Encoded) -> None:
    with pytest.raises(EngineFailure):
        corrected(config(correct=True), Rounds(says(EngineFailure("gone"))), encoded)


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    render(draw_scene(seed)).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_real_engine_corrects_and_repeats_itself(config: Make) -> None:
    """On the shipped model: each answer is what one greedy reply to its question begins with."""
    vigc_config = config(method="vigc", turns=3)
    images = [png(seed) for seed in range(4)]

    async def run() -> tuple[list[Any], list[Any], list[Any], list[str]]:
        generate = Generate(vigc_config)
        engine = generate.engine
        assert isinstance(engine, Engine)
        assert engine._llm.vllm_config.cache_config.enable_prefix_caching
        outs = [await generate(flow(images)) for _ in range(2)]
        generate.config = dataclasses.replace(
            config(correct=True), correction=CorrectionRules(context="fresh", style="vig", rounds=2)
        )
        fresh = await generate(flow(images[:2]))
        whole = []
        for row in outs[0].to_pylist():
            for turn in row["turns"]:
                if turn["status"] == "ok":
                    prompt = chat.answer_prompt(generate.processor, turn["question"], image=True)
                    reply = await engine.ask(
                        chat.token_ids(generate.processor.tokenizer, prompt),
                        render(draw_scene(int(row["key"]))),
                        image_key=row["image_id"],
                        seed=0,
                        decoding=Decoding(temperature=0, max_tokens=256),
                    )
                    whole.append(reply.text)
        engine.close()
        first, again, other = (
            [turn for row in out.to_pylist() for turn in row["turns"]] for out in (*outs, fresh)
        )
        return first, again, other, whole

    first, again, other, whole = asyncio.run(run())
    assert first == again
    good = [turn for turn in first if turn["status"] == "ok"]
    assert len(good) >= 9 and any(turn["kind"] == "detail" for turn in good)
    compared = 0
    for turn, reply in zip(good, whole, strict=True):
        taken = turn["correction"]
        said = split_sentences(reply)[: 8 if turn["kind"] == "detail" else 4]
        if not said or len(set(said)) < len(said):  # the model says nothing, or repeats itself
            assert taken["ended"] in ("nothing", "repeat")
            continue
        compared += 1
        assert split_sentences(turn["answer"]) == said
        assert taken["ended"] in ("complete", "limit")
        assert taken["tokens"] >= taken["kept_tokens"] > 0
        assert taken["requests"] == len(said)
    assert compared >= 8
    endings = {turn["correction"]["ended"] for turn in other if turn["status"] == "ok"}
    assert endings and endings <= set(vigc.OUTCOMES)
