"""More answers to turns that are there, with a scripted engine."""

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from c3l_ray import chat
from c3l_ray.answer_config import AnswerConfig, AnswerSampling
from c3l_ray.inference.answer_generator import AnswerGenerator
from c3l_ray.inference.engine_protocol import Decoding, GenerationRequest, Reply
from c3l_ray.inference.scripted_engine import ScriptedEngine
from c3l_ray.methods import alternatives, c3l
from c3l_ray.model_config import ClipModel, GeneratorModel
from c3l_ray.processors import load_processor
from c3l_ray.scenes import world
from c3l_ray.schema import STAGED_ROWS, Alternative, Turn
from tests import thinking
from tests.inference.builders import EncodeImage, stage_turns

OWN = c3l.format_instruction("Ask something.")


def make_config(name: str = str(world.LLAVA), **sampling: Any) -> AnswerConfig:
    return AnswerConfig(
        input=("turns.json",),
        output="run",
        model=GeneratorModel(name=name, dtype="float32", max_len=256, max_seqs=32),
        clip=ClipModel(name=str(world.CLIP), weights=None),
        answers=2,
        sampling=AnswerSampling(**{"max_tokens": 16, **sampling}),
    )


def make_turn(question: str, answer: str | None = "Red.", **fields: Any) -> Turn:
    turn: Turn = {"kind": "given", "instruction": "", "status": "ok"}
    return {**turn, "question": question, "answer": answer, **fields}  # type: ignore[typeddict-item]


def answer_turns(
    config: AnswerConfig, *rows: list[Turn], images: list[bytes]
) -> tuple[list[list[dict[str, Any]]], list[str | None], list[GenerationRequest]]:
    """The turns of each row, its error, and the requests that were made."""
    engine = ScriptedEngine(
        lambda _: Reply(text=" It is red. ", finish_reason="stop", num_tokens=4)
    )

    async def generate() -> pa.Table:
        return await AnswerGenerator(config, engine)(stage_turns(images, rows))

    table = asyncio.run(generate())
    assert table.schema.equals(STAGED_ROWS)
    return table["turns"].to_pylist(), table["error"].to_pylist(), engine.requests


def test_a_turn_of_our_own_is_asked_after_the_prompt_that_posed_it(encoded: EncodeImage) -> None:
    earlier: Alternative = {"answer": "Blue.", "num_samples": 1, "status": "ok"}
    turn = make_turn("What is it?", kind="detail", instruction=OWN, num_tokens=7)
    unusable = make_turn("Why?", status="duplicate")
    turns: list[Turn] = [{**row, "alternatives": [earlier]} for row in (turn, unusable)]
    ((answered, other),), errors, requests = answer_turns(make_config(), turns, images=[encoded()])
    assert other["alternatives"] is None and len(requests) == 2
    processor = load_processor(str(world.LLAVA))
    prompt = chat.continuation_prompt(
        processor, OWN, "Question: What is it? Answer:", with_image=True
    )
    turn_seed = alternatives.draw_turn_seed("image 0", 0, seed=0)
    for number, request in enumerate(requests):
        assert request.prompt_ids == chat.tokenize(processor.tokenizer, prompt)
        assert request.decoding == Decoding(temperature=1.0, max_tokens=16, stops=("Question:",))
        assert request.seed == alternatives.draw_answer_seed(turn_seed, number)
    assert answered["alternatives"] == [
        {"answer": "It is red.", "num_samples": 2, "status": "ok", "scores": None}
    ]
    kept = {name: answered[name] for name in turn if name != "num_tokens"}
    assert kept == {name: value for name, value in turn.items() if name != "num_tokens"}
    assert answered["num_tokens"] == 7 + 2 * 4 and errors == [None]


def test_a_turn_made_elsewhere_is_asked_as_it_is_scored(
    encoded: EncodeImage, tmp_path: Path
) -> None:
    """The bare question, after the usable turns before it and under its system message."""
    name = thinking.write_model(tmp_path / "m", thinking.WITH_SYSTEM)
    system = "Be brief."
    turns = [
        make_turn("What is it?", "A star.", instruction=system),
        make_turn("Is it <image>?", "No.", kind="follow_up", instruction=system),
        make_turn("Why?", None, kind="follow_up", instruction=system, status="missing_answer"),
        make_turn("Where?", "Left.", kind="follow_up", instruction=system),
        make_turn("How many?", "One."),
    ]
    config = make_config(name, temperature=0.5, top_p=0.9)
    (answered,), _, requests = answer_turns(config, turns, images=[encoded()])
    processor = load_processor(name)
    # What the special token stands in cannot be said, also not before another question.
    assert [turn["alternatives"] is not None for turn in answered] == [
        *(True, False, False, False, True)
    ]
    for turn, pair in ((turns[0], requests[:2]), (turns[4], requests[2:])):
        question, system_message = turn["question"] or "", turn["instruction"]
        prompt = chat.answer_prompt(processor, question, with_image=True, system=system_message)
        assert len(pair) == 2
        for request in pair:
            assert request.prompt_ids == chat.tokenize(processor.tokenizer, prompt)
            assert request.decoding == Decoding(temperature=0.5, top_p=0.9, max_tokens=16)
    assert [turn["answer"] for turn in answered] == [turn["answer"] for turn in turns]
    assert [turn["status"] for turn in answered] == [turn["status"] for turn in turns]


def test_what_came_before_a_question_is_in_its_prompt(encoded: EncodeImage) -> None:
    turns = [make_turn("What is it?", "A star."), make_turn("Where?", "Left.", kind="follow_up")]
    _, _, requests = answer_turns(make_config(), turns, images=[encoded()])
    processor = load_processor(str(world.LLAVA))
    history = (("What is it?", "A star."),)
    prompt = chat.answer_prompt(processor, "Where?", with_image=True, history=history)
    assert requests[2].prompt_ids == chat.tokenize(processor.tokenizer, prompt)
    assert len({request.seed for request in requests}) == 4


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_a_bad_image_keeps_its_turns_and_is_not_asked_about(
    encoded: EncodeImage, content: bytes
) -> None:
    rows = [[make_turn("What is it?")], [make_turn("What is it?")]]
    answered, errors, requests = answer_turns(make_config(), *rows, images=[content, encoded()])
    assert [turns[0]["alternatives"] is None for turns in answered] == [True, False]
    assert errors[0] is not None and errors[1] is None and len(requests) == 2


def test_a_template_that_takes_no_such_turn_refuses_its_answers(
    encoded: EncodeImage, tmp_path: Path
) -> None:
    refusing = "{% if messages | length > 1 %}{{ raise_exception('No talk.') }}{% endif %}"
    name = thinking.write_model(tmp_path / "m", refusing + thinking.SHIPPED)
    turns = [make_turn("What is it?"), make_turn("Where?", kind="follow_up")]
    (answered,), _, _ = answer_turns(make_config(name), turns, images=[encoded()])
    assert [turn["alternatives"][0]["status"] for turn in answered] == ["ok", "refused"]
    assert answered[1]["alternatives"] == [
        {"answer": "No talk.", "num_samples": 2, "status": "refused", "scores": None}
    ]
