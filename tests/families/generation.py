"""What one engine says of a family's checkpoint, and the log-probabilities behind it."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from c3l_ray import chat
from c3l_ray.config import Model, Sampling
from c3l_ray.inference.engine import Engine
from c3l_ray.inference.scoring_model import Asked
from c3l_ray.methods import c3l

NUM_TOKENS = 12


def noise(height: int, width: int) -> Image.Image:
    """An image with something in every patch."""
    drawn = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(drawn)


IMAGES = (noise(40, 60), noise(90, 50))
HISTORY = (("What stands in the middle?", "A circle."),)
QUESTIONS: tuple[tuple[str, chat.History], ...] = (
    ("What is at the top left?", ()),
    ("Is it red?", HISTORY),
)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What vLLM generated, the log-probability of each token, and of the same without the image."""

    asked: Asked
    ids: list[int]
    logprobs: list[float]
    text_logprobs: list[float]


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What one engine did: greedy replies, one held to a JSON schema, and what it warned of."""

    said: list[Said]
    json_reply: str
    warnings: list[str]


async def generate(folder: Path, processor: Any) -> Generated:
    """Asks the engine each question about each image, greedily and in float32."""
    with _warnings() as warnings:
        engine = Engine(
            Model(name=str(folder), dtype="float32", max_len=512, max_seqs=8),
            Sampling(temperature=0, max_tokens=NUM_TOKENS),
        )
    try:
        said = await asyncio.gather(
            *(
                _ask(engine, processor, image, question, history)
                for image in IMAGES
                for question, history in QUESTIONS
            )
        )
        # One after the other: a request for its prompt's log-probabilities slows its batch-mates.
        with_text = [await _with_text_side(engine, processor, one) for one in said]
        prompt = chat.answer_prompt(processor, "What is it?", image=True)
        ids = chat.token_ids(processor.tokenizer, prompt)
        in_json = await engine.ask(ids, IMAGES[0], image_key="json", seed=0, schema=c3l.REPLY_JSON_SCHEMA)
        return Generated(said=with_text, json_reply=in_json.text, warnings=warnings)
    finally:
        engine.close()


async def _ask(
    engine: Engine, processor: Any, image: Image.Image, question: str, history: chat.History
) -> Said:
    from vllm import SamplingParams

    prompt = chat.answer_prompt(processor, question, image=True, history=history)
    ids = chat.token_ids(processor.tokenizer, prompt)
    reply = await engine.ask(ids, image, image_key=str(image.size), seed=0)
    # The engine tells no log-probabilities, which only this test needs.
    output = await _last(
        engine,
        {"prompt_token_ids": ids, "multi_modal_data": {"image": image}},
        SamplingParams(temperature=0, max_tokens=NUM_TOKENS, logprobs=0),
        f"{image.size} {question}",
    )
    generated = output.outputs[0]
    assert reply.text == generated.text and reply.num_tokens == len(generated.token_ids)
    return Said(
        asked=Asked(image=image, question=question, answer=reply.text.strip(), history=history),
        ids=list(generated.token_ids),
        logprobs=[
            found[token].logprob
            for token, found in zip(generated.token_ids, generated.logprobs, strict=True)
        ],
        text_logprobs=[],
    )


async def _with_text_side(engine: Engine, processor: Any, said: Said) -> Said:
    from vllm import SamplingParams

    ids, start, end = spanned(processor, said.asked, image=False)
    output = await _last(
        engine,
        {"prompt_token_ids": ids},
        SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0),
        f"text {said.asked.image.size} {said.asked.question}",
    )
    found = [output.prompt_logprobs[place][ids[place]].logprob for place in range(start, end)]
    return replace(said, text_logprobs=found)


async def _last(engine: Engine, prompt: Any, params: Any, name: str) -> Any:
    async for output in engine._llm.generate(prompt, params, name):
        last = output
    return last


def spanned(processor: Any, asked: Asked, *, image: bool) -> tuple[list[int], int, int]:
    text, span = chat.answered(
        processor, asked.question, asked.answer, image=image, history=asked.history
    )
    return chat.spanned_ids(processor.tokenizer, text, span)


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What the engine's module logs meanwhile."""
    told: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: told.append(record.getMessage())
    logger = logging.getLogger(Engine.__module__)
    logger.addHandler(listener)
    try:
        yield told
    finally:
        logger.removeHandler(listener)
