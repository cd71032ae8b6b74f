"""A tuned model, once it is written, asked in vLLM: the proof that it loads there."""

import asyncio
from typing import cast

import ray

from c3l_ray import chat
from c3l_ray.errors import C3LError, last_line
from c3l_ray.images import decode_image
from c3l_ray.model_config import GeneratorModel, Sampling
from c3l_ray.train.reading.encode import load_processor

MAX_TOKENS = 32


def ask_tuned_model(
    name: str,
    *,
    image: bytes,
    instruction: str,
    max_pixels: int,
    gpus: float,
    template_args: tuple[str, ...] = (),
) -> str:
    """What a tuned model replies in vLLM to an instruction about an image, greedily.

    Args:
        name: of the model: a path or s3:// folder.
        image: its bytes.
        instruction: that goes with it.
        max_pixels: to which a larger image is shrunk.
        gpus: for the engine.
        template_args: of the chat template, as it was tuned with.

    Raises:
        C3LError: it does not load, or does not reply.
    """
    try:
        # In a process of its own: this one may have no GPU, and the engine's end is not its own.
        ask = ray.remote(num_gpus=gpus, max_retries=0)(_ask_in_vllm)
        return cast(str, ray.get(ask.remote(name, image, instruction, max_pixels, template_args)))
    except ray.exceptions.RayError as error:
        raise C3LError(
            f"the tuned model in {name} does not load in vLLM: {last_line(error)}\n"
            "what was trained stays; --no-verify skips this check"
        ) from error


def _ask_in_vllm(
    name: str, image: bytes, instruction: str, max_pixels: int, template_args: tuple[str, ...]
) -> str:
    from c3l_ray.inference.engine import Engine
    from c3l_ray.inference.engine_protocol import GenerationRequest

    processor = load_processor(name, template_args)
    prompt = chat.answer_prompt(processor, instruction, with_image=True)
    model = GeneratorModel(name=name, max_seqs=1, template_args=template_args)
    engine = Engine(model, Sampling(temperature=0, max_tokens=MAX_TOKENS))
    request = GenerationRequest(
        prompt_ids=chat.tokenize(processor.tokenizer, prompt),
        image=decode_image(image, max_pixels),
        image_key="verify",
        seed=0,
    )
    try:
        return asyncio.run(engine.ask(request)).text
    finally:
        engine.close()
