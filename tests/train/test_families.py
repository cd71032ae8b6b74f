"""Every family learns by every objective, and comes back whole: in transformers and in vLLM."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from c3l_ray import chat
from c3l_ray.config import Model, Sampling
from c3l_ray.inference.engine import Engine
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene, render
from c3l_ray.train.reading.batches import inputs_of
from c3l_ray.train.training_config import Optimization, TrainConfig, Tuned
from c3l_ray.train.reading.encode import encode, load_processor
from c3l_ray.train.learning.export import check
from c3l_ray.train.learning.learner import adapter
from c3l_ray.train.learning.step import Optimizer
from tests.families.checkpoints import FAMILIES, write
from tests.train.records import record
from tests.train.learning.test_export import exported

# These two and LLaVA-1.5 run with every other test; the rest take the marker `families`.
ALWAYS = {"Qwen2.5-VL", "SmolVLM"}
NUM_TOKENS = 8
TOLERANCE = 1e-4  # nats


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(one, marks=[] if one.name in ALWAYS else pytest.mark.families, id=one.slug)
        for one in FAMILIES
    ],
)
def name(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(request.param, tmp_path_factory.mktemp(request.param.slug))


def trained(name: Path, objective: Any, tune: Any) -> tuple[Optimizer, dict[str, torch.Tensor]]:
    """A model after three steps on two scenes, and what it learnt from."""
    config = TrainConfig(
        input=(),
        output="",
        model=Tuned(name=str(name), tune=tune),
        objective=objective,
        optim=Optimization(batch_size=2, learning_rate=1e-2),
    )
    records = [record(0), record(1)]
    (share,) = encode(records, config, {}, num_workers=1, rounds=1)
    turns = [turn for made in records for turn in made["turns"]]
    tokenizer = load_processor(str(name)).tokenizer
    for ids_T, turn_T in zip(share["input_ids"], share["turn_RT"], strict=True):
        said = tokenizer.decode(ids_T[turn_T])
        match objective:
            case "c3l":
                assert any(turn["question"] in said and turn["answer"] in said for turn in turns)
            case "cgvlm":
                assert said.strip() in {made["caption"] for made in records}
            case "vigc":
                assert any(said.strip().endswith(turn["answer"]) for turn in turns)
    optimizer = Optimizer(config, 6, torch.device("cpu"))
    losses = [optimizer.step(step, [share])["loss"].item() for step in range(3)]
    assert losses[-1] < losses[0]
    return optimizer, inputs_of(share)


@pytest.mark.parametrize(
    ("objective", "tune"),
    [("c3l", "lora"), ("c3l", "full"), ("cgvlm", "adapter"), ("vigc", "lora")],
)
def test_what_is_exported_is_what_was_trained(
    name: Path, tmp_path: Path, objective: str, tune: str
) -> None:
    optimizer, inputs = trained(name, objective, tune)
    folder = exported(optimizer, tmp_path)
    assert len(check(str(folder))) == len(check(str(name)))
    tuned, bare = (AutoModelForImageTextToText.from_pretrained(path) for path in (folder, name))
    with torch.no_grad():
        expected = optimizer.learner.eval().model(**inputs).logits
        assert torch.allclose(tuned(**inputs).logits, expected, atol=1e-4)
        assert (bare(**inputs).logits - expected).abs().max() > 0.1
    assert adapter(tuned, "") is not None


async def generated(folder: Path, prompt: str, image: Image.Image) -> tuple[list[int], list[float]]:
    """What vLLM replies greedily, and the log-probability of each token."""
    from vllm import SamplingParams

    ids = chat.token_ids(load_processor(str(folder)).tokenizer, prompt)
    engine = Engine(
        Model(name=str(folder), dtype="float32", max_len=512, max_seqs=1), Sampling(temperature=0)
    )
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
    chosen = [found[token].logprob for token, found in zip(tokens, reply.logprobs, strict=True)]
    return tokens, chosen


@pytest.mark.parametrize("family", ["LLaVA-1.5, shipped", "Qwen2.5-VL", "SmolVLM"])
def test_vllm_computes_what_was_trained(tmp_path: Path, family: str) -> None:
    made = [one for one in FAMILIES if one.name == family]
    name = write(made[0], tmp_path / "original") if made else world.LLAVA
    optimizer, _ = trained(name, "c3l", "lora")
    folder = exported(optimizer, tmp_path / "tuned")
    processor = load_processor(str(folder))
    image = render(draw_scene(3))
    prompt = chat.answer_prompt(processor, record(3)["turns"][0]["instruction"], image=True)
    tokens, theirs = asyncio.run(generated(folder, prompt, image))
    inputs = processor(
        text=[prompt],
        images=[[image]],
        return_tensors="pt",
        add_special_tokens=not chat.begins(processor.tokenizer, prompt),
    )
    start = inputs["input_ids"].shape[1]
    for key, fill in (("input_ids", None), ("attention_mask", 1), ("mm_token_type_ids", 0)):
        if key in inputs:
            more = tokens if fill is None else [fill] * len(tokens)
            inputs[key] = torch.cat([inputs[key], torch.tensor([more])], dim=1)
    with torch.no_grad():
        logits = optimizer.learner.eval().model(**inputs).logits[0, start - 1 : -1]
    ours = logits.log_softmax(dim=-1).gather(1, torch.tensor(tokens)[:, None]).squeeze(1)
    assert (ours - torch.tensor(theirs)).abs().max() < TOLERANCE
