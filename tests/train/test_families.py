"""Every family learns by every objective, and comes back whole: in transformers and in vLLM."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from c3l_ray import chat
from c3l_ray.config import GeneratorModel, Sampling
from c3l_ray.inference.engine import Engine
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.render import render_scene
from c3l_ray.train.learning.export import map_weight_names
from c3l_ray.train.learning.loading import find_adapter
from c3l_ray.train.learning.trainer import Trainer
from c3l_ray.train.reading.batches import MicroBatch, model_inputs
from c3l_ray.train.reading.encode import encode_batch, load_processor
from c3l_ray.train.training_config import ModelToTune, Optimization, TrainConfig
from tests.families.checkpoints import FAMILIES, write_checkpoint
from tests.train.learning.builders import CPU, write_tuned_model
from tests.train.records import make_record

# These two and LLaVA-1.5 run with every other test; the rest take the marker `families`.
ALWAYS = {"Qwen2.5-VL", "SmolVLM"}
NUM_TOKENS = 8
TOLERANCE = 1e-4  # nats


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            family, marks=[] if family.name in ALWAYS else pytest.mark.families, id=family.slug
        )
        for family in FAMILIES
    ],
)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(request.param, tmp_path_factory.mktemp(request.param.slug))


def train_three_steps(checkpoint: Path, objective: Any, tune: Any) -> tuple[Trainer, MicroBatch]:
    """A model after three steps on two scenes, and what it learnt from."""
    config = TrainConfig(
        input=(),
        output="",
        model=ModelToTune(name=str(checkpoint), tune=tune),
        objective=objective,
        optim=Optimization(batch_size=2, learning_rate=1e-2),
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
    trainer = Trainer(config, 6, CPU)
    losses = [trainer.step(step, [micro_batch])["loss"].item() for step in range(3)]
    assert losses[-1] < losses[0]
    return trainer, micro_batch


@pytest.mark.parametrize(
    ("objective", "tune"),
    [
        ("c3l", "lora"),
        ("c3l", "full"),
        ("cgvlm", "adapter"),
        ("vigc", "lora"),
        ("conversations", "lora"),
    ],
)
def test_the_written_model_is_what_was_trained(
    checkpoint: Path, tmp_path: Path, objective: str, tune: str
) -> None:
    trainer, micro_batch = train_three_steps(checkpoint, objective, tune)
    inputs = model_inputs(micro_batch)
    folder = write_tuned_model(trainer, tmp_path)
    assert len(map_weight_names(str(folder))) == len(map_weight_names(str(checkpoint)))
    tuned_model, bare_model = (
        AutoModelForImageTextToText.from_pretrained(path) for path in (folder, checkpoint)
    )
    with torch.no_grad():
        expected = trainer.learner.eval().model(**inputs).logits
        assert torch.allclose(tuned_model(**inputs).logits, expected, atol=1e-4)
        assert (bare_model(**inputs).logits - expected).abs().max() > 0.1
    assert find_adapter(tuned_model, "") is not None


async def generate(folder: Path, prompt: str, image: Image.Image) -> tuple[list[int], list[float]]:
    """What vLLM replies greedily, and the log-probability of each token."""
    from vllm import SamplingParams

    ids = chat.tokenize(load_processor(str(folder)).tokenizer, prompt)
    model = GeneratorModel(name=str(folder), dtype="float32", max_len=512, max_seqs=1)
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


@pytest.mark.parametrize("name", ["LLaVA-1.5, shipped", "Qwen2.5-VL", "SmolVLM"])
def test_vllm_computes_what_was_trained(tmp_path: Path, name: str) -> None:
    families = [family for family in FAMILIES if family.name == name]
    checkpoint = write_checkpoint(families[0], tmp_path / "original") if families else world.LLAVA
    trainer, _ = train_three_steps(checkpoint, "c3l", "lora")
    folder = write_tuned_model(trainer, tmp_path / "tuned")
    processor = load_processor(str(folder))
    image = render_scene(draw_scene(3))
    instruction = make_record(3)["turns"][0]["instruction"]
    prompt = chat.answer_prompt(processor, instruction, with_image=True)
    tokens, vllm_logprobs = asyncio.run(generate(folder, prompt, image))
    inputs = processor(
        text=[prompt],
        images=[[image]],
        return_tensors="pt",
        add_special_tokens=not chat.has_bos(processor.tokenizer, prompt),
    )
    start = inputs["input_ids"].shape[1]
    for key, fill in (("input_ids", None), ("attention_mask", 1), ("mm_token_type_ids", 0)):
        if key in inputs:
            more = tokens if fill is None else [fill] * len(tokens)
            inputs[key] = torch.cat([inputs[key], torch.tensor([more])], dim=1)
    with torch.no_grad():
        logits = trainer.learner.eval().model(**inputs).logits[0, start - 1 : -1]
    logprobs = logits.log_softmax(dim=-1).gather(1, torch.tensor(tokens)[:, None]).squeeze(1)
    assert (logprobs - torch.tensor(vllm_logprobs)).abs().max() < TOLERANCE
