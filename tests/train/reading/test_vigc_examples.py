"""What vigc learns is what generation asks, token by token, and nothing but the replies to it."""

import asyncio
from typing import Any

import pyarrow as pa
import pytest
import torch

from c3l_ray import chat
from c3l_ray.inference.engine_protocol import GenerationRequest, Reply
from c3l_ray.inference.scripted_engine import ScriptedEngine
from c3l_ray.inference.turn_generator import TurnGenerator
from c3l_ray.methods import c3l, vigc
from c3l_ray.schema import STAGED_ROWS, Turn, conform
from c3l_ray.train.mixture_config import Mixture
from c3l_ray.train.reading.batches import MicroBatch
from c3l_ray.train.reading.chat_text import Example, token_spans
from c3l_ray.train.reading.encode import encode_batch
from c3l_ray.train.reading.examples import (
    find_turn_sets,
    make_example,
    make_instruction_and_reply,
)
from c3l_ray.train.reading.mixture import DRAW_RANGE, TurnDraw
from tests.examples import MakeConfig
from tests.train.records import MakeTrainConfig, make_record

# Numbers of draws: the first learns the answer, the last the whole turn.
CORRECTION, GENERATION = 0, DRAW_RANGE - 1


def engine_repeating(turn: Turn) -> ScriptedEngine:
    """An engine that writes this turn with a draft, and corrects that to the answer."""

    def reply_to(request: GenerationRequest) -> Reply:
        drafted = f"Question: {turn['question']} Answer: a draft"
        text = drafted if request.decoding is None else f" {turn['answer']}"
        return Reply(text=text, finish_reason="stop", num_tokens=1)

    return ScriptedEngine(reply_to)


@pytest.mark.parametrize("kind", vigc.INSTRUCTIONS)
def test_the_prompts_are_those_of_generation(
    kind: str, train_config: MakeTrainConfig, config: MakeConfig, processor: Any
) -> None:
    """`jobs.generate --method vigc` as it is, with an engine that remembers its prompts."""
    record = make_record(0)
    (given_turn,) = [turn for turn in record["turns"] if turn["kind"] == kind]
    image_id = next(
        name
        for name in map(str, range(100))
        if c3l.plan_requests(name, 1, instructions=vigc.INSTRUCTIONS)[0].kind == kind
    )
    engine = engine_repeating(given_turn)
    row = {"image_id": [image_id], "key": ["k"], "source": ["s"], "image": [record["image"]]}
    staged = conform({**row, "unit": ["u"], "unit_rows": [1]}, STAGED_ROWS)

    async def generate() -> pa.Table:
        generator = TurnGenerator(config(method="vigc", turns_per_image=1), engine, processor)
        return await generator(staged)

    (turn,) = asyncio.run(generate()).to_pylist()[0]["turns"]
    assert (turn["kind"], turn["question"]) == (kind, given_turn["question"])
    assert turn["draft"] == "a draft"
    turn["scores"] = None
    record["turns"] = [turn]
    wordings = vigc.TAUGHT_INSTRUCTIONS[kind]
    wording = next(
        number
        for number, wording in enumerate(wordings)
        if turn["instruction"] == c3l.format_instruction(wording)
    )
    generation = GENERATION // len(wordings) * len(wordings) - len(wordings) + wording
    generation_prompt, correction_prompt = (request.prompt_ids for request in engine.requests[:2])
    whole_turn = f"Question: {turn['question']} Answer: {turn['answer']}"
    for number, prompt, reply in (
        (generation, generation_prompt, whole_turn),
        (CORRECTION, correction_prompt, turn["answer"]),
    ):
        config_ = train_config(objective="vigc")
        example = make_example(record, processor, config_, {}, TurnDraw(0, number))
        assert isinstance(example, Example)
        (text,) = example.texts
        assert chat.tokenize(processor.tokenizer, text.text)[: len(prompt)] == prompt
        ((start, end),) = text.targets
        assert text.text[start:end] == f"{reply}{processor.tokenizer.eos_token}"
        assert end == len(text.text)
        spans = token_spans(processor, text.text)
        assert spans[len(prompt) - 1][1] <= start < spans[len(prompt)][1]


def test_a_reply_that_is_learnt_is_read_back() -> None:
    for record in map(make_record, range(5)):
        for place, turn in enumerate(record["turns"]):
            instructions = set(map(c3l.format_instruction, vigc.TAUGHT_INSTRUCTIONS[turn["kind"]]))
            for number in range(GENERATION, GENERATION - 12, -1):
                instruction, reply = make_instruction_and_reply(
                    record, Mixture(), TurnDraw(place, number)
                )
                assert instruction in instructions
                assert c3l.parse_reply(reply) == (turn["question"], turn["answer"])


def test_all_wordings_are_drawn_and_both_tasks_by_their_share() -> None:
    record = make_record(0)
    (place,) = [i for i, turn in enumerate(record["turns"]) if turn["kind"] == "detail"]
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(DRAW_RANGE, (2000,), generator=generator).tolist()

    def draw(number: int, mixture: Mixture) -> tuple[str, str]:
        return make_instruction_and_reply(record, mixture, TurnDraw(place, number))

    instructions = [draw(number, Mixture(correction_share=0.25))[0] for number in numbers]
    question = record["turns"][place]["question"]
    wordings = vigc.TAUGHT_INSTRUCTIONS["detail"]
    assert set(instructions) == {question, *map(c3l.format_instruction, wordings)}
    assert abs(instructions.count(str(question)) / len(instructions) - 0.25) < 0.03
    for share, number in ((0.0, GENERATION), (1.0, CORRECTION)):
        examples = {draw(other, Mixture(correction_share=share)) for other in numbers}
        assert draw(number, Mixture()) in examples and (len(examples) == 1) == (share == 1.0)


@pytest.mark.parametrize("number", [CORRECTION, GENERATION])
def test_only_the_reply_and_its_end_are_learnt(
    train_config: MakeTrainConfig, processor: Any, number: int
) -> None:
    record = make_record(0)

    def marked_ids(micro_batch: MicroBatch, mask: str) -> list[int]:
        ids: list[int] = micro_batch["input_ids"][0][micro_batch[mask][0] > 0].tolist()
        return ids

    for place in range(5):
        draw = TurnDraw(place, number)
        instruction, reply = make_instruction_and_reply(record, Mixture(), draw)
        config = train_config(objective="vigc")
        (micro_batch,) = encode_batch(
            [record], config, {}, num_workers=1, accumulation_steps=1, draws=[draw]
        )
        tokenizer = processor.tokenizer
        reply_ids = tokenizer(f" {reply}", add_special_tokens=False)["input_ids"]
        assert marked_ids(micro_batch, "reply_RT") == reply_ids
        assert marked_ids(micro_batch, "target_RT") == [*reply_ids, tokenizer.eos_token_id]
        target_T = micro_batch["target_RT"][0]
        first = int(target_T.nonzero()[0])
        assert target_T[first:].all() and set(target_T.tolist()) == {0.0, 1.0}
        prompt = micro_batch["input_ids"][0][:first].tolist()
        ids = tokenizer(f" {instruction}", add_special_tokens=False)["input_ids"]
        assert any(prompt[i : i + len(ids)] == ids for i in range(len(prompt)))


def test_an_evaluation_takes_the_same_of_an_image_every_time() -> None:
    records = [make_record(number) for number in range(40)]
    examples = [make_instruction_and_reply(record, Mixture(), None) for record in records]
    assert examples == [make_instruction_and_reply(record, Mixture(), None) for record in records]
    asks_a_question = [
        any(instruction == turn["question"] for turn in record["turns"])
        for record, (instruction, _) in zip(records, examples, strict=True)
    ]
    assert 10 < sum(asks_a_question) < 30  # both tasks
    kinds = {
        turn["kind"]
        for record, (_, reply) in zip(records, examples, strict=True)
        for turn in record["turns"]
        if str(turn["answer"]) in reply
    }
    assert kinds == set(c3l.KINDS)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {0: "kind"}),
        ({"kind": "given"}, {0: "scenes.tar"}),
        ({"kind": "follow_up"}, {}),
        ({"status": "duplicate"}, {}),
        ({"question": ""}, {}),
    ],
)
def test_good_turns_of_known_kinds_are_learnt(
    changed: dict[str, str], expected: dict[int, str]
) -> None:
    record = make_record(0)
    record["turns"] = [{**record["turns"][0], **changed}]  # type: ignore[typeddict-item]
    kind = record["turns"][0]["kind"]
    assert find_turn_sets(record, Mixture()) == {
        place: kind if name == "kind" else name for place, name in expected.items()
    }
    record["status"] = "failed"
    assert find_turn_sets(record, Mixture()) == {}
