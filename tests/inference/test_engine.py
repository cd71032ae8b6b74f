"""The real engine on the shipped model: it agrees with transformers, repeats itself, can die."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from c3l_ray import chat
from c3l_ray.config import Model, Sampling
from c3l_ray.errors import EngineFailure, RefusedRequest
from c3l_ray.inference.engine import Decoding, Engine, Reply
from c3l_ray.methods import c3l
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene, render


@pytest.fixture(scope="module")
def processor() -> Any:
    return AutoProcessor.from_pretrained(world.LLAVA)


@pytest.fixture(scope="module")
def loop() -> Any:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def engine(loop: asyncio.AbstractEventLoop) -> Any:
    async def start() -> Engine:
        model = Model(name=str(world.LLAVA), dtype="float32", max_len=128, max_seqs=16)
        return Engine(model, Sampling(max_tokens=48, temperature=1.5))

    engine = loop.run_until_complete(start())
    yield engine
    engine.close()


def prompt_ids(processor: Any, request: c3l.TurnRequest) -> list[int]:
    text = chat.answer_prompt(processor, request.instruction, image=True)
    return chat.token_ids(processor.tokenizer, text)


def test_vllm_and_transformers_agree_on_every_token(
    engine: Engine, processor: Any, loop: asyncio.AbstractEventLoop
) -> None:
    from vllm import SamplingParams

    model = AutoModelForImageTextToText.from_pretrained(world.LLAVA, dtype="float32").eval()

    async def generate(seed: int) -> tuple[Any, list[int], Any]:
        image = render(draw_scene(seed))
        request = c3l.plan_requests(f"image {seed}", 1)[0]
        ids = prompt_ids(processor, request)
        outputs: AsyncIterator[Any] = engine._llm.generate(
            {"prompt_token_ids": ids, "multi_modal_data": {"image": image}},
            SamplingParams(temperature=0.7, seed=seed, max_tokens=48, logprobs=0),
            f"agree-{seed}",
        )
        async for output in outputs:
            last = output
        return image, list(last.prompt_token_ids), last.outputs[0]

    async def generate_all() -> list[Any]:
        return await asyncio.gather(*(generate(seed) for seed in range(12)))

    num_tokens = 0
    for image, expanded, reply in loop.run_until_complete(generate_all()):
        ids = torch.tensor([expanded + list(reply.token_ids)])
        pixels = processor.image_processor(image, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            logits = model(input_ids=ids, pixel_values=pixels).logits[0]
        logprobs = logits[len(expanded) - 1 : -1].log_softmax(-1)
        for position, token in enumerate(reply.token_ids):
            theirs = reply.logprobs[position][token].logprob
            assert theirs == pytest.approx(logprobs[position, token].item(), abs=1e-3)
            num_tokens += 1
    assert num_tokens > 100


def test_a_seed_gives_the_same_reply_whoever_is_in_the_batch(
    engine: Engine, processor: Any, loop: asyncio.AbstractEventLoop
) -> None:
    image = render(draw_scene(5))
    request = c3l.plan_requests("one", 1)[0]

    async def ask(seeds: list[int]) -> list[str]:
        replies = await asyncio.gather(
            *(
                engine.ask(prompt_ids(processor, request), image, image_key="one", seed=seed)
                for seed in seeds
            )
        )
        assert all(reply.num_tokens > 0 for reply in replies)
        return [reply.text for reply in replies]

    alone = loop.run_until_complete(ask([3]))
    together = loop.run_until_complete(ask(list(range(16))))
    assert together[3] == alone[0]
    assert len(set(together)) > 4


def test_beams_find_what_transformers_finds(
    engine: Engine, processor: Any, loop: asyncio.AbstractEventLoop
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(world.LLAVA, dtype="float32").eval()
    text = chat.answer_prompt(processor, "What does the image show?", image=True)
    ids = chat.token_ids(processor.tokenizer, text)
    endings = set()
    scenes = [scene for scene in map(draw_scene, range(20)) if len(scene.things) > 2]
    for number, scene in enumerate(scenes[:2]):
        image = render(scene)
        inputs = processor(text=[text], images=[image], return_tensors="pt")
        theirs = model.generate(**inputs, num_beams=4, do_sample=False, max_new_tokens=40)
        whole = processor.decode(
            theirs[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )

        async def ask(image: Any, key: str, *stops: str) -> Reply:
            decoding = Decoding(temperature=0, max_tokens=40, beams=4, stops=stops)
            return await engine.ask(ids, image, image_key=key, seed=0, decoding=decoding)

        reply = loop.run_until_complete(ask(image, f"beam {number}"))
        assert reply.text.strip() == whole.strip()
        cut = loop.run_until_complete(ask(image, f"beam {number}", ". "))
        assert (cut.finish == "stop_string") == (". " in cut.text)
        assert cut.num_tokens < reply.num_tokens
        endings.add(cut.finish)
    assert "stop_string" in endings


def test_a_prompt_that_does_not_fit_is_refused(
    engine: Engine, processor: Any, loop: asyncio.AbstractEventLoop
) -> None:
    ids = prompt_ids(processor, c3l.plan_requests("one", 1)[0])
    long = [*ids, *ids[-3:] * 100]
    with pytest.raises(RefusedRequest):
        loop.run_until_complete(engine.ask(long, render(draw_scene(1)), image_key="long", seed=0))


def test_the_engine_ends_with_a_killed_process() -> None:
    """Its processes would hold their memory against the next run otherwise."""
    script = (
        "from c3l_ray.config import Model, Sampling\n"
        "from c3l_ray.inference.engine import Engine\n"
        "import asyncio, psutil, sys, time\n"
        "async def start():\n"
        f"    return Engine(Model(name={str(world.LLAVA)!r}, max_len=128), Sampling())\n"
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
        told = next(line for line in job.stdout if line.startswith("pids"))
        pids = [int(pid) for pid in told.split()[1:]]
        assert len(pids) >= 2
        job.kill()
    left = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(left, 20)
    assert not alive, [process.cmdline() for process in alive]


def test_an_engine_whose_process_is_gone_is_dead(
    engine: Engine, processor: Any, loop: asyncio.AbstractEventLoop
) -> None:
    """The last of this file: nothing answers after it."""
    for child in psutil.Process().children(recursive=True):
        if "EngineCore" in " ".join(child.cmdline()) or "spawn_main" in " ".join(child.cmdline()):
            child.kill()
    with pytest.raises(EngineFailure):
        loop.run_until_complete(
            engine.ask(
                prompt_ids(processor, c3l.plan_requests("one", 1)[0]),
                render(draw_scene(1)),
                image_key="dead",
                seed=0,
            )
        )
