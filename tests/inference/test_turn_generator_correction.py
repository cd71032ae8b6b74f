"""TurnGenerator's correction: all its outcomes with a scripted engine, and once the real one."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoProcessor

from c3l_ray import chat
from c3l_ray.config import GenerateConfig
from c3l_ray.errors import EngineFailure, RefusedRequest
from c3l_ray.inference.engine import Engine
from c3l_ray.inference.engine_protocol import Decoding, GenerationRequest, Reply
from c3l_ray.inference.scripted_engine import ScriptedEngine
from c3l_ray.inference.turn_generator import TurnGenerator
from c3l_ray.methods import c3l, vigc
from c3l_ray.methods.sentences import split_sentences
from c3l_ray.methods.vigc import CorrectionRules
from c3l_ray.model_config import GeneratorModel
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.render import render_scene
from tests import thinking
from tests.inference.builders import EncodeImage, MakeConfig, stage_images

DRAFT = "The circle is red. The star is blue."


class CorrectionScript:
    """Replies to a turn's first request with DRAFT, and to its n-th correction with the n-th text.

    A correction's seed is its turn's plus n; a reply that ends with a blank ends at a stop string.

    A thought stands before the reply to a turn's first request.

    Attributes:
        steps: the corrections replied to, each the turn's place among the first requests and n.
    """

    def __init__(
        self,
        *replies: str | Exception,
        question: str = "What is at {seed}?",
        thought: str = "",
        slow_turn: int | None = None,
    ) -> None:
        self.replies = replies
        self.question = question
        self.slow_turn = slow_turn
        self.thought = thought
        self.turn_seeds: list[int] = []
        self.steps: list[tuple[int, int]] = []
        self.engine = ScriptedEngine(self.reply_to)

    async def reply_to(self, request: GenerationRequest) -> Reply:
        if request.decoding is None:
            self.turn_seeds.append(request.seed)
            text = (
                f"{self.thought}Question: {self.question.format(seed=request.seed)} Answer: {DRAFT}"
            )
            return Reply(text=text, finish_reason="stop", num_tokens=20)
        assert request.json_schema is None  # a correction is plain text, whatever the turn's format
        turn, step = self.step_of(request)
        await asyncio.sleep(0.2 if turn == self.slow_turn else 0.001)
        self.steps.append((turn, step))
        reply = self.replies[step - 1]
        if isinstance(reply, Exception):
            raise reply
        finish_reason = "stop_string" if reply[-1:] == " " else "stop"
        return Reply(text=reply, finish_reason=finish_reason, num_tokens=9)

    def step_of(self, request: GenerationRequest) -> tuple[int, int]:
        return min(
            (turn, request.seed - seed)
            for turn, seed in enumerate(self.turn_seeds)
            if 0 < request.seed - seed < 20
        )

    @property
    def corrections(self) -> list[GenerationRequest]:
        return [request for request in self.engine.requests if request.decoding is not None]


def correct(
    config: GenerateConfig, script: CorrectionScript, encoded: EncodeImage, num_images: int = 1
) -> list[dict[str, Any]]:
    """The turns of the images, one after another."""

    async def call() -> list[dict[str, Any]]:
        table = await TurnGenerator(config, script.engine)(stage_images([encoded()] * num_images))
        return [turn for row in table.to_pylist() for turn in row["turns"]]

    return asyncio.run(call())


def test_each_answer_is_asked_anew_and_the_first_is_its_draft(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    script = CorrectionScript("The circle is green. ", "The star is big.")
    turns = correct(config(method="vigc", turns_per_image=3), script, encoded)
    assert {turn["kind"] for turn in turns} == set(vigc.INSTRUCTIONS)
    for turn in turns:
        assert turn["status"] == "ok" and turn["draft"] == DRAFT
        assert turn["answer"] == "The circle is green. The star is big."
        assert turn["num_tokens"] == 20 + 2 * 9
        # The tokens of the shipped tokenizer in this answer: words and full stops.
        assert turn["correction"] == {
            "outcome": "complete",
            "num_requests": 2,
            "generated_tokens": 18,
            "kept_tokens": 10,
        }
    assert sorted(script.steps) == [(turn, step) for turn in range(3) for step in (1, 2)]


def test_the_steps_ask_what_the_method_says(config: MakeConfig, encoded: EncodeImage) -> None:
    script = CorrectionScript("The circle is green. ", "The star is big.", question="What is red?")
    rules = CorrectionRules(max_tokens=33, temperature=0.25, repetition_penalty=1.5)
    correct(config(method="vigc", turns_per_image=1, correction=rules), script, encoded)
    tokenizer = AutoProcessor.from_pretrained(world.LLAVA).tokenizer
    ids_of_steps = [request.prompt_ids for request in script.corrections]
    prompts = [tokenizer.decode(ids) for ids in ids_of_steps]
    assert len(prompts) == 2
    assert all("What is red" in prompt and "Answer" not in prompt for prompt in prompts)
    assert prompts[0].endswith("ASSISTANT:")
    accepted = tokenizer(" The circle is green.", add_special_tokens=False)["input_ids"]
    assert ids_of_steps[1] == [*ids_of_steps[0], *accepted]
    for request in script.corrections:
        assert request.decoding == Decoding(
            max_tokens=33, temperature=0.25, repetition_penalty=1.5, stops=vigc.STOPS["sentence"]
        )


def test_c3l_turns_are_corrected_where_the_config_says_so(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    plain = correct(config(), CorrectionScript(), encoded)
    assert all(turn["draft"] is None and turn["correction"] is None for turn in plain)
    turns = correct(config(correct=True), CorrectionScript("No."), encoded)
    assert {turn["kind"] for turn in turns} == set(c3l.KINDS)
    assert {(turn["draft"], turn["answer"]) for turn in turns} == {(DRAFT, "No.")}
    assert [turn["instruction"] for turn in turns] == [turn["instruction"] for turn in plain]


def test_a_model_that_repeats_itself_gives_the_draft_back(
    config: MakeConfig, encoded: EncodeImage
) -> None:
    first, second = split_sentences(DRAFT)
    turns = correct(config(correct=True), CorrectionScript(f"{first} ", second), encoded)
    assert all(turn["answer"] == turn["draft"] == DRAFT for turn in turns)


@pytest.mark.parametrize(
    ("replies", "answer", "outcome", "num_requests", "num_tokens"),
    [
        (("",), DRAFT, "no_sentence", 1, 9),
        ((RefusedRequest("too long"),), DRAFT, "no_sentence", 1, 0),
        (("The <image> is red.",), DRAFT, "no_sentence", 1, 9),
        (("It is red. ", RefusedRequest("too long")), "It is red.", "refused", 2, 9),
        (("It is red. ", "The <image> is."), "It is red.", "special_tokens", 2, 18),
        (("It is red. ", "It is red. "), "It is red.", "repeat", 2, 18),
    ],
)
def test_a_turn_says_why_its_correction_ended_early(
    config: MakeConfig,
    encoded: EncodeImage,
    replies: tuple[str | Exception, ...],
    answer: str,
    outcome: str,
    num_requests: int,
    num_tokens: int,
) -> None:
    one_turn = config(correct=True, turns_per_image=1)
    (turn,) = correct(one_turn, CorrectionScript(*replies), encoded)
    assert (turn["status"], turn["draft"], turn["answer"]) == ("ok", DRAFT, answer)
    assert turn["num_tokens"] == 20 + num_tokens
    assert turn["correction"] == {
        "outcome": outcome,
        "num_requests": num_requests,
        "generated_tokens": num_tokens,
        "kept_tokens": 0 if outcome == "no_sentence" else 4,
    }


THOUGHT = "Got it, let's look at the image. It is small.\n</think>\n\n"


@pytest.mark.parametrize(
    ("replies", "answer", "outcome"),
    [
        ((f"{THOUGHT}It is red. It is big.", " It is big. "), "It is red. It is big.", "limit"),
        ((f"{THOUGHT}It is red.",), "It is red.", "complete"),
        (("Got it, let's look at the image. It is",), DRAFT, "no_sentence"),
        ((f"{THOUGHT}It is red. It is big.", " So.</think> It is big."), "It is red.", "thought"),
    ],
)
def test_a_thought_is_no_sentence_of_a_correction(
    config: MakeConfig,
    encoded: EncodeImage,
    tmp_path: Path,
    replies: tuple[str, ...],
    answer: str,
    outcome: str,
) -> None:
    name = thinking.write_model(tmp_path / "m", thinking.ALWAYS)
    one_turn = config(
        correct=True,
        turns_per_image=1,
        model=GeneratorModel(name=name),
        correction=CorrectionRules(max_steps=2, max_detail_steps=2),
    )
    script = CorrectionScript(*replies, thought=THOUGHT)
    (turn,) = correct(one_turn, script, encoded)
    assert turn["thought"] == "Got it, let's look at the image. It is small."
    assert (turn["status"], turn["draft"], turn["answer"]) == ("ok", DRAFT, answer)
    assert turn["correction"]["outcome"] == outcome
    # A stop would end the first reply inside its thought; the next one continues after it.
    stops = [request.decoding.stops for request in script.corrections if request.decoding]
    assert stops == [(), vigc.STOPS["sentence"]][: len(replies)]


def test_a_turn_that_is_not_ok_is_not_corrected(config: MakeConfig, encoded: EncodeImage) -> None:
    script = CorrectionScript("No.", question="The same?")
    turns = correct(config(correct=True, turns_per_image=3), script, encoded)
    assert [turn["status"] for turn in turns] == ["ok", "duplicate", "duplicate"]
    assert [turn["correction"] is None for turn in turns] == [False, True, True]
    assert script.steps == [(0, 1)]


def test_no_step_waits_for_another_turn(config: MakeConfig, encoded: EncodeImage) -> None:
    replies = ("A is red. ", "B is red. ", "C is red. ", "D is red.")
    script = CorrectionScript(*replies, slow_turn=1)
    correct(config(correct=True, turns_per_image=2), script, encoded, num_images=2)
    assert len(script.steps) == 16
    steps_of_others = {(turn, step) for turn in (0, 2, 3) for step in range(1, 5)}
    assert set(script.steps[:12]) == steps_of_others


def test_a_dead_engine_is_no_row_error(config: MakeConfig, encoded: EncodeImage) -> None:
    with pytest.raises(EngineFailure):
        correct(config(correct=True), CorrectionScript(EngineFailure("gone")), encoded)


def test_the_real_engine_corrects_and_repeats_itself(config: MakeConfig) -> None:
    """On the shipped model: each answer is what one greedy reply to its question begins with."""
    vigc_config = config(method="vigc", turns_per_image=3)
    fresh_config = config(
        correct=True, correction=CorrectionRules(context="fresh", style="vig", max_steps=2)
    )
    images = [world.encode_png(draw_scene(seed)) for seed in range(4)]

    async def reply_to_question(generator: TurnGenerator, question: str, row: Any) -> str:
        """One greedy reply to a turn's question alone."""
        prompt = chat.answer_prompt(generator.processor, question, with_image=True)
        reply = await generator.engine.ask(
            GenerationRequest(
                prompt_ids=chat.tokenize(generator.processor.tokenizer, prompt),
                image=render_scene(draw_scene(int(row["key"]))),
                image_key=row["image_id"],
                seed=0,
                decoding=Decoding(temperature=0, max_tokens=256),
            )
        )
        return reply.text

    async def run() -> tuple[list[Any], list[Any], list[Any], list[str]]:
        generator = TurnGenerator(vigc_config)
        engine = generator.engine
        assert isinstance(engine, Engine)
        assert engine._llm.vllm_config.cache_config.enable_prefix_caching
        tables = [await generator(stage_images(images)) for _ in range(2)]
        generator.config = fresh_config
        tables.append(await generator(stage_images(images[:2])))
        whole_replies = [
            await reply_to_question(generator, turn["question"], row)
            for row in tables[0].to_pylist()
            for turn in row["turns"]
            if turn["status"] == "ok"
        ]
        engine.close()
        first, again, fresh = (
            [turn for row in table.to_pylist() for turn in row["turns"]] for table in tables
        )
        return first, again, fresh, whole_replies

    first, again, fresh, whole_replies = asyncio.run(run())
    assert first == again
    good = [turn for turn in first if turn["status"] == "ok"]
    assert len(good) >= 9 and any(turn["kind"] == "detail" for turn in good)
    num_compared = 0
    for turn, reply in zip(good, whole_replies, strict=True):
        correction = turn["correction"]
        expected = split_sentences(reply)[: 8 if turn["kind"] == "detail" else 4]
        if not expected or len(set(expected)) < len(expected):  # it is silent, or repeats itself
            assert correction["outcome"] in ("no_sentence", "repeat")
            continue
        num_compared += 1
        assert split_sentences(turn["answer"]) == expected
        assert correction["outcome"] in ("complete", "limit")
        assert correction["generated_tokens"] >= correction["kept_tokens"] > 0
        assert correction["num_requests"] == len(expected)
    assert num_compared >= 8
    outcomes = {turn["correction"]["outcome"] for turn in fresh if turn["status"] == "ok"}
    assert outcomes and outcomes <= set(vigc.OUTCOMES)
