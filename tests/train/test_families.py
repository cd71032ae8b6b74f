"""Every family learns by every objective, and comes back whole: in transformers and in vLLM."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText

from c3l_ray import chat
from c3l_ray.images import decode_image
from c3l_ray.inference.engine import Engine
from c3l_ray.inference.logit_transform import restore_logit_transform
from c3l_ray.model_config import Dtype, GeneratorModel, Sampling
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.render import render_scene
from c3l_ray.schema import Record
from c3l_ray.train.learning.export import map_weight_names
from c3l_ray.train.learning.loading import find_adapter
from c3l_ray.train.learning.readable import Prompt, write_replies
from c3l_ray.train.learning.trainer import Trainer
from c3l_ray.train.objectives import Answers
from c3l_ray.train.reading.batches import MicroBatch, make_micro_batch, model_inputs
from c3l_ray.train.reading.chat_text import Example
from c3l_ray.train.reading.encode import encode_batch, load_processor
from c3l_ray.train.reading.examples import make_example
from c3l_ray.train.training_config import ModelToTune, Optimization, TrainConfig
from tests.families.checkpoints import FAMILIES, Family, write_checkpoint
from tests.families.table import Row, check_page, row_of
from tests.families.vllm_replies import as_in_vllm
from tests.train.learning.builders import CPU, write_tuned_model
from tests.train.records import make_record

# These two and LLaVA-1.5 run with every other test; the rest take the marker `families`.
ALWAYS = {"Qwen2.5-VL", "SmolVLM"}
NUM_TOKENS = 8


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            family, marks=[] if family.name in ALWAYS else pytest.mark.families, id=family.slug
        )
        for family in FAMILIES
    ],
)
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen


@pytest.fixture(scope="module")
def checkpoint(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(family, tmp_path_factory.mktemp(family.slug))


@pytest.fixture(scope="module")
def row(family: Family, checkpoint: Path, request: pytest.FixtureRequest) -> Row:
    """The family's row of the table; tests fill in what they have shown."""
    (model_class,) = AutoConfig.from_pretrained(checkpoint).architectures
    return row_of(family, model_class, request.config)


def load_model(folder: Path) -> Any:
    model = AutoModelForImageTextToText.from_pretrained(folder)
    restore_logit_transform(model)
    return model


def train_three_steps(checkpoint: Path, objective: Any, tune: Any) -> tuple[Trainer, MicroBatch]:
    """A model after three steps on two scenes, and what it learnt from."""
    config = TrainConfig(
        input=(),
        output="",
        model=ModelToTune(name=str(checkpoint), tune=tune),
        objective=objective,
        answers=Answers(pair_weight=1.0),
        optim=Optimization(batch_size=2, learning_rate=3e-3),
    )
    records = [make_record(0), make_record(1)]
    (micro_batch,) = encode_batch(records, config, {}, num_workers=1, accumulation_steps=1)
    turns = [
        (str(turn["question"]), str(turn["answer"]))
        for record in records
        for turn in record["turns"]
    ]
    tokenizer = load_processor(str(checkpoint)).tokenizer
    for record, ids_T, target_T in zip(
        records, micro_batch["input_ids"], micro_batch["target_RT"], strict=False
    ):
        if objective == "conversations":
            learnt = tokenizer.decode(ids_T[target_T > 0])
            places = [learnt.find(str(turn["answer"])) for turn in record["turns"]]
            assert -1 not in places and places[0] in (0, 1) and len(places) == 5
            assert not any(str(turn["question"]) in learnt for turn in record["turns"])
    for ids_T, reply_T in zip(micro_batch["input_ids"], micro_batch["reply_RT"], strict=True):
        reply = tokenizer.decode(ids_T[reply_T])
        match objective:
            case "c3l":
                assert any(question in reply and answer in reply for question, answer in turns)
            case "cgvlm":
                assert reply.strip() in {record["caption"] for record in records}
            case "vigc":
                assert any(reply.strip().endswith(answer) for _, answer in turns)
            case "answers":
                assert any(reply.strip().startswith(f"Question: {asked}") for asked, _ in turns)
    trainer = Trainer(config, 6, CPU)
    losses = [trainer.step(step, [micro_batch])["loss"].item() for step in range(3)]
    assert losses[-1] < losses[0]
    if objective == "answers":
        check_replies(trainer, records)
    return trainer, micro_batch


def check_replies(trainer: Trainer, records: list[Record]) -> None:
    """The model that is tuned replies to prompts of several lengths at once."""
    processor = load_processor(trainer.config.model.name)
    prompts = [
        Prompt(
            image=decode_image(record["image"], 10**6),
            text=chat.answer_prompt(processor, turn["instruction"], with_image=True),
            number=number,
        )
        for number, (record, turn) in enumerate(
            (record, turn) for record in records for turn in record["turns"][:2]
        )
    ]
    replies = write_replies(trainer, prompts, processor)
    assert len(replies) == 4 and any(replies)


RUNS = [
    ("c3l", "lora"),
    ("c3l", "full"),
    ("cgvlm", "adapter"),
    ("vigc", "lora"),
    ("conversations", "lora"),
    ("answers", "lora"),
]


@pytest.mark.parametrize(("objective", "tune"), RUNS)
def test_the_written_model_is_what_was_trained(
    checkpoint: Path, row: Row, tmp_path: Path, objective: str, tune: str
) -> None:
    if (objective, tune) == RUNS[0]:
        row.tunes = True
    tuned_before, row.tunes = row.tunes, False
    trainer, micro_batch = train_three_steps(checkpoint, objective, tune)
    inputs = model_inputs(micro_batch)
    folder = write_tuned_model(trainer, tmp_path)
    assert len(map_weight_names(str(folder))) == len(map_weight_names(str(checkpoint)))
    tuned_model, bare_model = load_model(folder), load_model(checkpoint)
    with torch.no_grad():
        expected = trainer.learner.eval().model(**inputs).logits
        assert torch.allclose(tuned_model(**inputs).logits, expected, atol=5e-4)
        assert (bare_model(**inputs).logits - expected).abs().max() > 0.1
    assert find_adapter(tuned_model, "") is not None
    row.tunes = tuned_before


def test_a_micro_batch_is_what_the_processor_makes_of_all_its_texts(checkpoint: Path) -> None:
    """Text by text, so that an image is preprocessed once, or at once where rows do not add up."""
    config = TrainConfig(input=(), output="", model=ModelToTune(name=str(checkpoint)))
    processor = load_processor(str(checkpoint))
    examples = []
    for number, size in enumerate(((64, 64), (90, 50), (50, 120))):
        example = make_example(make_record(number), processor, config, {})
        assert isinstance(example, Example)
        examples.append(replace(example, image=example.image.resize(size)))
    texts = [chat_text.text for example in examples for chat_text in example.texts]
    expected = processor(
        text=texts,
        images=[[example.image] for example in examples for _ in example.texts],
        padding=True,
        padding_side="right",
        return_tensors="pt",
        add_special_tokens=not chat.has_bos(processor.tokenizer, texts[0]),
    )
    inputs = model_inputs(make_micro_batch(examples, [1.0] * len(examples), processor))
    tensors = {name: value for name, value in expected.items() if isinstance(value, torch.Tensor)}
    assert inputs.keys() == tensors.keys()
    assert all(torch.equal(inputs[name], tensors[name]) for name in tensors)


async def generate(
    folder: Path, prompt: str, image: Image.Image, dtype: Dtype
) -> tuple[list[int], list[float]]:
    """What vLLM replies greedily, and the log-probability of each token."""
    from vllm import SamplingParams

    ids = chat.tokenize(load_processor(str(folder)).tokenizer, prompt)
    model = GeneratorModel(name=str(folder), dtype=dtype, max_len=512, max_seqs=1)
    engine = Engine(model, Sampling(temperature=0))
    try:
        async for output in engine._llm.generate(  # the engine itself tells no log-probabilities
            {"prompt_token_ids": ids, "multi_modal_data": {"image": image}},
            SamplingParams(temperature=0, max_tokens=NUM_TOKENS, logprobs=0),
            "tuned",
        ):
            reply = output.outputs[0]
    finally:
        engine.close()
    tokens = list(reply.token_ids)
    logprobs = [
        logprob_of[token].logprob for token, logprob_of in zip(tokens, reply.logprobs, strict=True)
    ]
    return tokens, logprobs


def test_vllm_computes_what_was_trained(
    family: Family, checkpoint: Path, row: Row, tmp_path: Path
) -> None:
    row.returns = False
    if family.vllm_fails:
        pytest.skip("vLLM cannot compute this family on a CPU")
    assert largest_difference_in_vllm(checkpoint, tmp_path, family) < family.tolerance
    row.returns = True


def test_vllm_computes_what_was_trained_of_the_shipped_model(tmp_path: Path) -> None:
    llava = next(family for family in FAMILIES if family.name == "LLaVA-1.5")
    assert largest_difference_in_vllm(world.LLAVA, tmp_path, llava) < llava.tolerance


def largest_difference_in_vllm(checkpoint: Path, tmp_path: Path, family: Family) -> float:
    """Of a model after three steps, between vLLM's log-probabilities and the trainer's, in nats."""
    trainer, _ = train_three_steps(checkpoint, "c3l", "lora")
    folder = write_tuned_model(trainer, tmp_path / "tuned")
    processor = load_processor(str(folder))
    image = render_scene(draw_scene(3))
    instruction = make_record(3)["turns"][0]["instruction"]
    prompt = chat.answer_prompt(processor, instruction, with_image=True) + family.reply_start
    tokens, vllm_logprobs = asyncio.run(generate(folder, prompt, image, family.vllm_dtype))
    inputs = processor(
        text=[prompt],
        images=[[image]],
        return_tensors="pt",
        add_special_tokens=not chat.has_bos(processor.tokenizer, prompt),
    )
    start = inputs["input_ids"].shape[1]
    fills = {"input_ids": None, "attention_mask": 1, "mm_token_type_ids": 0, "token_type_ids": 0}
    for key, fill in fills.items():
        if key in inputs:
            more = tokens if fill is None else [fill] * len(tokens)
            inputs[key] = torch.cat([inputs[key], torch.tensor([more])], dim=1)
    vlm = trainer.learner.eval().model
    with torch.no_grad(), as_in_vllm(vlm, inputs, family) as vllm_inputs:
        logits = vlm(**vllm_inputs).logits[0, start - 1 : -1]
    logprobs = logits.log_softmax(dim=-1).gather(1, torch.tensor(tokens)[:, None]).squeeze(1)
    return float((logprobs - torch.tensor(vllm_logprobs)).abs().max())


def test_the_page_has_these_results(row: Row) -> None:
    """The last of this file: the page has what the tests before it have shown."""
    check_page(row)
