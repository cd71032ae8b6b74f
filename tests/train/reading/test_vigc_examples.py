"""What vigc learns is what generation asks, token by token, and nothing but the replies to it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from c3l_ray import chat
from c3l_ray.config import GenerateConfig
from c3l_ray.inference.engine import Decoding, Reply
from c3l_ray.inference.turn_generator import Generate
from c3l_ray.methods import c3l, vigc
from c3l_ray.scenes import world
from c3l_ray.schema import STAGED_ROWS, conform
from c3l_ray.train.reading import order
from c3l_ray.train.reading.batches import Batch
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.train.reading.encode import encode, load_processor
from c3l_ray.train.reading.examples import Draw, candidates, example, instructed
from c3l_ray.train.reading.mixture import NUM_LOTS, Mixture
from c3l_ray.train.reading.chat_text import offsets
from tests.train.records import record

Make = Callable[..., TrainConfig]
CORRECTION, GENERATION = 0, NUM_LOTS - 1  # lots: the first learns the answer, the last the turn


@pytest.fixture(scope="module")
def processor() -> Any:
    return load_processor(str(world.LLAVA))


def ids(share: Batch, mask: str, row: int = 0) -> list[int]:
    return share["input_ids"][row][share[mask][row] > 0].tolist()


class Asked:
    """An engine that answers as the turns of a record do, and notes what it was asked."""

    def __init__(self, turn: dict[str, Any]) -> None:
        self.turn = turn
        self.prompts: list[list[int]] = []

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
        self.prompts.append(prompt_ids)
        written = f"Question: {self.turn['question']} Answer: a draft"
        text = written if decoding is None else f" {self.turn['answer']}"
        return Reply(text=text, finish="stop", num_tokens=1)


@pytest.mark.parametrize("kind", vigc.INSTRUCTIONS)
def test_the_prompts_are_those_of_generation(
    kind: str, train_config: Make, config: Callable[..., GenerateConfig], processor: Any
) -> None:
    """`jobs.generate --method vigc` as it is, with an engine that notes its prompts."""
    made = record(0)
    (drawn,) = [turn for turn in made["turns"] if turn["kind"] == kind]
    image_id = next(
        name
        for name in map(str, range(100))
        if c3l.plan_requests(name, 1, instructions=vigc.INSTRUCTIONS)[0].kind == kind
    )
    engine = Asked(drawn)
    row = {"image_id": [image_id], "key": ["k"], "source": ["s"], "image": [made["image"]]}
    flow = conform({**row, "unit": ["u"], "unit_rows": [1]}, STAGED_ROWS)

    async def call() -> pa.Table:
        return await Generate(config(method="vigc", turns=1), engine, processor)(flow)

    (turn,) = asyncio.run(call()).to_pylist()[0]["turns"]
    assert (turn["kind"], turn["question"], turn["draft"]) == (kind, drawn["question"], "a draft")
    made["turns"] = [turn | {"scores": None}]
    number = next(
        i
        for i, wording in enumerate(vigc.TAUGHT_INSTRUCTIONS[kind])
        if turn["instruction"] == c3l.format_instruction(wording)
    )
    wordings = len(vigc.TAUGHT_INSTRUCTIONS[kind])
    generation = GENERATION // wordings * wordings - wordings + number
    for lot, prompt, reply in (
        (generation, engine.prompts[0], f"Question: {turn['question']} Answer: {turn['answer']}"),
        (CORRECTION, engine.prompts[1], turn["answer"]),
    ):
        found = example(made, processor, train_config(objective="vigc"), {}, (0, lot))
        assert found is not None
        (sequence,) = found.sequences
        tokens = chat.token_ids(processor.tokenizer, sequence.text)
        assert tokens[: len(prompt)] == prompt
        assert sequence.target is not None
        start, end = sequence.target
        assert sequence.text[start:end] == f"{reply}{processor.tokenizer.eos_token}"
        assert end == len(sequence.text)
        spans = offsets(processor, sequence.text)
        assert spans[len(prompt) - 1][1] <= start < spans[len(prompt)][1]


def test_a_reply_that_is_learnt_is_read_back() -> None:
    for made in map(record, range(5)):
        for place, turn in enumerate(made["turns"]):
            for lot in range(GENERATION, GENERATION - 12, -1):
                asked, reply = instructed(made, Mixture(), (place, lot))
                assert asked in {c3l.format_instruction(wording) for wording in vigc.TAUGHT_INSTRUCTIONS[turn["kind"]]}
                assert c3l.parse_reply(reply) == (turn["question"], turn["answer"])


def test_all_wordings_are_drawn_and_both_tasks_by_their_share() -> None:
    made = record(0)
    (place,) = [i for i, turn in enumerate(made["turns"]) if turn["kind"] == "detail"]
    lots = torch.randint(NUM_LOTS, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    asked = [instructed(made, Mixture(correction_share=0.25), (place, lot))[0] for lot in lots]
    question = made["turns"][place]["question"]
    assert set(asked) == {question, *map(c3l.format_instruction, vigc.TAUGHT_INSTRUCTIONS["detail"])}
    assert abs(asked.count(question) / len(asked) - 0.25) < 0.03
    for share, both in ((0.0, GENERATION), (1.0, CORRECTION)):
        only = {instructed(made, Mixture(correction_share=share), (place, lot)) for lot in lots}
        of_draw = instructed(made, Mixture(), (place, both))
        assert of_draw in only and (len(only) == 1) == (share == 1.0)


@pytest.mark.parametrize("lot", [CORRECTION, GENERATION])
def test_only_the_reply_and_its_end_are_learnt(
    train_config: Make, processor: Any, lot: int
) -> None:
    made = record(0)
    for place in range(5):
        asked, reply = instructed(made, Mixture(), (place, lot))
        config = train_config(objective="vigc")
        (share,) = encode([made], config, {}, num_workers=1, rounds=1, draws=[(place, lot)])
        tokenizer = processor.tokenizer
        said = tokenizer(f" {reply}", add_special_tokens=False)["input_ids"]
        assert ids(share, "turn_RT") == said
        assert ids(share, "target_RT") == [*said, tokenizer.eos_token_id]
        target_T = share["target_RT"][0]
        first = int(target_T.nonzero()[0])
        assert target_T[first:].all() and set(target_T.tolist()) == {0.0, 1.0}
        prompt = share["input_ids"][0][:first].tolist()
        words = tokenizer(f" {asked}", add_special_tokens=False)["input_ids"]
        assert any(prompt[i : i + len(words)] == words for i in range(len(prompt)))


def test_an_evaluation_takes_the_same_of_an_image_every_time() -> None:
    records = [record(i) for i in range(40)]
    first = [instructed(made, Mixture(), None) for made in records]
    assert first == [instructed(made, Mixture(), None) for made in records]
    asked = [
        any(ask == t["question"] for t in made["turns"])
        for made, (ask, _) in zip(records, first, strict=True)
    ]
    assert 10 < sum(asked) < 30  # both tasks
    kinds = {
        turn["kind"]
        for made, (_, reply) in zip(records, first, strict=True)
        for turn in made["turns"]
        if turn["answer"] in reply
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
    made = record(0)
    made["turns"] = [made["turns"][0] | changed]
    kind = made["turns"][0]["kind"]
    assert candidates(made, Mixture()) == {
        place: kind if name == "kind" else name for place, name in expected.items()
    }
    assert candidates({**made, "status": "failed"}, Mixture()) == {}


@given(st.data(), st.integers(1, 3), st.integers(1, 4))
@settings(
    deadline=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_number_of_workers_learns_the_same(
    train_config: Make, data: st.DataObject, num_workers: int, micro_batch: int
) -> None:
    records = [record(i % 3) for i in range(6)]
    draw = st.tuples(st.integers(0, 4), st.integers(0, NUM_LOTS - 1))
    draws: list[Draw | None] = [data.draw(draw) for _ in records]
    config = train_config(objective="vigc")
    rounds = order.num_rounds(len(records), num_workers, micro_batch)
    shares = encode(records, config, {}, num_workers=num_workers, rounds=rounds, draws=draws)
    learnt = [
        ids(share, "target_RT", row)
        for share in shares
        for row in range(len(share["input_ids"]))
        if share["weight_B"][row]
    ]
    (whole,) = encode(records, config, {}, num_workers=1, rounds=1, draws=draws)
    assert learnt == [ids(whole, "target_RT", row) for row in range(6) if whole["weight_B"][row]]
