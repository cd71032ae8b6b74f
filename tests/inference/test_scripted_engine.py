import asyncio

import pytest
from PIL import Image

from c3l_ray.errors import RefusedRequest
from c3l_ray.inference.engine_protocol import GenerationEngine, GenerationRequest, Reply
from c3l_ray.inference.scripted_engine import ScriptedEngine


def make_request(seed: int) -> GenerationRequest:
    return GenerationRequest(
        prompt_ids=[1, 2], image=Image.new("RGB", (4, 4)), image_key="a", seed=seed
    )


def make_reply(seed: int) -> Reply:
    return Reply(text=str(seed), finish_reason="stop", num_tokens=1)


def test_it_replies_by_its_function_and_remembers_the_requests() -> None:
    async def reply_later(request: GenerationRequest) -> Reply:
        return make_reply(request.seed)

    engines: list[ScriptedEngine] = [
        ScriptedEngine(lambda request: make_reply(request.seed)),
        ScriptedEngine(reply_later),
    ]
    for scripted in engines:
        engine: GenerationEngine = scripted
        requests = [make_request(seed) for seed in range(3)]
        replies = [asyncio.run(engine.ask(request)) for request in requests]
        assert [reply.text for reply in replies] == ["0", "1", "2"]
        assert scripted.requests == requests


def test_it_raises_what_its_function_raises() -> None:
    def refuse(request: GenerationRequest) -> Reply:
        raise RefusedRequest("too long")

    engine = ScriptedEngine(refuse)
    with pytest.raises(RefusedRequest, match="too long"):
        asyncio.run(engine.ask(make_request(0)))
    assert len(engine.requests) == 1
