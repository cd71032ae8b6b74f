"""The real engine on the shipped model: it agrees with transformers, repeats itself, can die."""

import asyncio
import dataclasses
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from c3l_ray import chat
from c3l_ray.errors import EngineFailure, RefusedRequest
from c3l_ray.inference.engine import Engine
from c3l_ray.inference.engine_protocol import Decoding, GenerationRequest, Reply
from c3l_ray.methods import c3l
from c3l_ray.model_config import GeneratorModel, Sampling
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.render import render_scene


@pytest.fixture(scope="module")
def processor() -> Any:
    return AutoProcessor.from_pretrained(world.LLAVA)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def engine(loop: asyncio.AbstractEventLoop) -> Iterator[Engine]:
    async def start() -> Engine:
        model = GeneratorModel(name=str(world.LLAVA), dtype="float32", max_len=128, max_seqs=16)
        return Engine(model, Sampling(max_tokens=48, temperature=1.5))

    engine = loop.run_until_complete(start())
    yield engine
    engine.close()


def first_prompt_ids(processor: Any, image_id: str) -> list[int]:
    """The prompt of the first request that C3L makes of an image."""
    (request,) = c3l.plan_requests(image_id, 1)
    text = chat.answer_prompt(processor, request.instruction, with_image=True)
    return chat.tokenize(processor.tokenizer, text)


def test_vllm_and_transformers_agree_on_every_token(
    engine: Engine, processor: Any, loop: asyncio.AbstractEventLoop
) -> None:
    from vllm import SamplingParams

    model = AutoModelForImageTextToText.from_pretrained(world.LLAVA, dtype="float32").eval()

    async def generate(seed: int) -> tuple[Any, list[int], Any]:
        image = render_scene(draw_scene(seed))
        ids = first_prompt_ids(processor, f"image {seed}")
        outputs: AsyncIterator[Any] = engine._llm.generate(
            {"prompt_token_ids": ids, "multi_modal_data": {"image": image}},
            SamplingParams(temperature=0.7, seed=seed, max_tokens=48, logprobs=0),
            f"agree-{seed}",
        )
        async for output in outputs:
            final = output
        return image, list(final.prompt_token_ids), final.outputs[0]

    async def generate_all() -> list[Any]:
        return await asyncio.gather(*(generate(seed) for seed in range(12)))

    num_tokens = 0
    for image, prompt_ids, reply in loop.run_until_complete(generate_all()):
        ids = torch.tensor([prompt_ids + list(reply.token_ids)])
        pixels = processor.image_processor(image, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            logits = model(input_ids=ids, pixel_values=pixels).logits[0]
        logprobs = logits[len(prompt_ids) - 1 : -1].log_softmax(-1)
        for position, token in enumerate(reply.token_ids):
            vllm_logprob = reply.logprobs[position][token].logprob
            assert vllm_logprob == pytest.approx(logprobs[position, token].item(), abs=1e-3)
            num_tokens += 1
    assert num_tokens > 100


def test_a_seed_gives_the_same_reply_whoever_is_in_the_batch(
    engine: Engine, processor: Any, loop: asyncio.AbstractEventLoop
) -> None:
    image = render_scene(draw_scene(5))
    prompt_ids = first_prompt_ids(processor, "one")

    async def ask(seeds: list[int]) -> list[str]:
        requests = [
            GenerationRequest(prompt_ids=prompt_ids, image=image, image_key="one", seed=seed)
            for seed in seeds
        ]
        replies = await asyncio.gather(*map(engine.ask, requests))
        assert all(reply.num_tokens > 0 for reply in replies)
        return [reply.text for reply in replies]

    before = dataclasses.replace(engine.load)
    alone = loop.run_until_complete(ask([3]))
    first = dataclasses.replace(engine.load)
    together = loop.run_until_complete(ask(list(range(16))))
    assert together[3] == alone[0]
    assert len(set(together)) > 4
    # What the engine counts: one prompt, then sixteen that are equal to it.
    length = first.prompt_tokens - before.prompt_tokens
    assert (
        length > len(prompt_ids) and engine.load.prompt_tokens == first.prompt_tokens + 16 * length
    )
    assert engine.load.requests == first.requests == 0


@pytest.mark.parametrize("num_beams", [1, 2])
def test_special_tokens_stand_in_a_reply_that_keeps_them(
    engine: Engine, processor: Any, loop: asyncio.AbstractEventLoop, num_beams: int
) -> None:
    image = render_scene(draw_scene(5))
    decoding = Decoding(temperature=0, max_tokens=48, stops=("never",), num_beams=num_beams)

    async def ask(keep_special_tokens: bool) -> Reply:
        return await engine.ask(
            GenerationRequest(
                prompt_ids=first_prompt_ids(processor, "one"),
                image=image,
                image_key="one",
                seed=0,
                decoding=decoding,
                keep_special_tokens=keep_special_tokens,
            )
        )

    plain, kept = (loop.run_until_complete(ask(keep)) for keep in (False, True))
    assert plain.finish_reason == kept.finish_reason == "stop"
    assert plain.text and kept.text == f"{plain.text}{processor.tokenizer.eos_token}"


def test_beams_find_the_reply_that_transformers_finds(
    engine: Engine, processor: Any, loop: asyncio.AbstractEventLoop
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(world.LLAVA, dtype="float32").eval()
    text = chat.answer_prompt(processor, "What does the image show?", with_image=True)
    ids = chat.tokenize(processor.tokenizer, text)
    finish_reasons = set()
    scenes = [scene for scene in map(draw_scene, range(20)) if len(scene.things) > 2]
    for number, scene in enumerate(scenes[:2]):
        image = render_scene(scene)
        inputs = processor(text=[text], images=[image], return_tensors="pt")
        output = model.generate(**inputs, num_beams=4, do_sample=False, max_new_tokens=40)
        expected = processor.decode(
            output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )

        async def ask(image: Any, key: str, *stops: str) -> Reply:
            decoding = Decoding(temperature=0, max_tokens=40, num_beams=4, stops=stops)
            return await engine.ask(
                GenerationRequest(
                    prompt_ids=ids, image=image, image_key=key, seed=0, decoding=decoding
                )
            )

        reply = loop.run_until_complete(ask(image, f"beam {number}"))
        assert reply.text.strip() == expected.strip()
        cut = loop.run_until_complete(ask(image, f"beam {number}", ". "))
        assert (cut.finish_reason == "stop_string") == (". " in cut.text)
        assert cut.num_tokens < reply.num_tokens
        finish_reasons.add(cut.finish_reason)
    assert "stop_string" in finish_reasons


def test_a_prompt_that_does_not_fit_is_refused(
    engine: Engine, processor: Any, loop: asyncio.AbstractEventLoop
) -> None:
    ids = first_prompt_ids(processor, "one")
    request = GenerationRequest(
        prompt_ids=[*ids, *ids[-3:] * 100],
        image=render_scene(draw_scene(1)),
        image_key="long",
        seed=0,
    )
    with pytest.raises(RefusedRequest):
        loop.run_until_complete(engine.ask(request))


def test_a_model_that_vllm_runs_as_designed_has_no_note(engine: Engine) -> None:
    assert engine.notes == []


def test_the_engine_ends_with_a_killed_process() -> None:
    """Its processes would hold their memory against the next run otherwise."""
    script = (
        "from c3l_ray.config import GeneratorModel, Sampling\n"
        "from c3l_ray.inference.engine import Engine\n"
        "import asyncio, psutil, sys, time\n"
        "async def start():\n"
        f"    model = GeneratorModel(name={str(world.LLAVA)!r}, max_len=128)\n"
        "    return Engine(model, Sampling())\n"
        "if __name__ == '__main__':\n"
        "    engine = asyncio.run(start())\n"
        "    pids = [p.pid for p in psutil.Process().children(recursive=True)]\n"
        "    print('pids', *pids, flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as job:
        assert job.stdout is not None
        pids_line = next(line for line in job.stdout if line.startswith("pids"))
        pids = [int(pid) for pid in pids_line.split()[1:]]
        assert len(pids) >= 2
        job.kill()
    running = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(running, 20)
    assert not alive, [process.cmdline() for process in alive]


def test_an_engine_whose_process_is_gone_is_dead(
    engine: Engine, processor: Any, loop: asyncio.AbstractEventLoop
) -> None:
    """The last of this file: nothing answers after it."""
    for child in psutil.Process().children(recursive=True):
        if "EngineCore" in " ".join(child.cmdline()) or "spawn_main" in " ".join(child.cmdline()):
            child.kill()
    request = GenerationRequest(
        prompt_ids=first_prompt_ids(processor, "one"),
        image=render_scene(draw_scene(1)),
        image_key="dead",
        seed=0,
    )
    with pytest.raises(EngineFailure):
        loop.run_until_complete(engine.ask(request))
