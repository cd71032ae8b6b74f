"""That vLLM can use a tuned model, once it is written."""

import asyncio

import ray

from c3l_ray import chat
from c3l_ray.config import Model, Sampling
from c3l_ray.errors import C3LError
from c3l_ray.images import decode
from c3l_ray.train.reading.encode import load_processor
from jobs.command_line import cause

MAX_TOKENS = 32


def verified(name: str, *, image: bytes, instruction: str, max_pixels: int, gpus: float) -> str:
    """What a tuned model replies in vLLM to an instruction about an image, greedily.

    Raises:
        C3LError: it does not load, or does not reply.
    """
    try:
        # In a process of its own: this one may have no GPU, and the engine's end is not its own.
        ask = ray.remote(num_gpus=gpus, max_retries=0)(_ask)
        reply: str = ray.get(ask.remote(name, image, instruction, max_pixels))
    except ray.exceptions.RayError as error:
        raise C3LError(
            f"the tuned model in {name} does not load in vLLM: {cause(error)}\n"
            "what was trained stays; --no-verify skips this check"
        ) from error
    return reply


def _ask(name: str, image: bytes, instruction: str, max_pixels: int) -> str:
    from c3l_ray.inference.engine import Engine

    processor = load_processor(name)
    prompt = chat.answer_prompt(processor, instruction, image=True)
    engine = Engine(Model(name=name, max_seqs=1), Sampling(temperature=0, max_tokens=MAX_TOKENS))
    try:
        asked = engine.ask(
            chat.token_ids(processor.tokenizer, prompt),
            decode(image, max_pixels),
            image_key="verify",
            seed=0,
        )
        return asyncio.run(asked).text
    finally:
        engine.close()
