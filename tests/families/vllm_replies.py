"""What one engine replies with a family's checkpoint, and the log-probabilities behind it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from c3l_ray import chat
from c3l_ray.inference.engine import Engine
from c3l_ray.inference.engine_protocol import GenerationRequest
from c3l_ray.inference.scoring_model import TurnToScore
from c3l_ray.methods import c3l
from c3l_ray.model_config import GeneratorModel, Sampling
from c3l_ray.train.learning.loading import find_adapter
from tests.families.checkpoints import Family

NUM_TOKENS = 12


def noise_image(height: int, width: int) -> Image.Image:
    """An image with something in every patch."""
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


IMAGES = (noise_image(40, 60), noise_image(90, 50))
HISTORY = (("What stands in the middle?", "A circle."),)
QUESTIONS: tuple[tuple[str, chat.History], ...] = (
    ("What is at the top left?", ()),
    ("Is it red?", HISTORY),
)


@dataclass(frozen=True, kw_only=True)
class VllmReply:
    """A greedy reply of vLLM with the log-probability of each token, with the image and without.

    Attributes:
        turn: the reply as a turn to score.
        ids: the reply's tokens.
        logprobs: ln p of each given the image.
        text_logprobs: ln p of each without the image.
    """

    turn: TurnToScore
    ids: list[int]
    logprobs: list[float]
    text_logprobs: list[float]


@dataclass(frozen=True, kw_only=True)
class VllmReplies:
    """What one engine did: greedy replies, one held to a JSON schema, and its notes."""

    replies: list[VllmReply]
    json_reply: str
    notes: list[str]


def vllm_is_causal(family: Family) -> bool:
    """Whether vLLM lets an image's tokens see only earlier ones, against the family's design.

    Its attention on the CPU knows no other way and says nothing, as of vLLM 0.32.
    """
    return family.bidirectional_image and not torch.cuda.is_available()


def vllm_differs(family: Family) -> bool:
    """Whether vLLM computes something else than the family's design, which `as_in_vllm` copies."""
    return vllm_is_causal(family) or family.text_image_end


@contextmanager
def as_in_vllm(vlm: nn.Module, inputs: dict[str, Any], family: Family) -> Iterator[dict[str, Any]]:
    """The inputs with which transformers computes what vLLM does; the model differs inside."""
    if vllm_is_causal(family):
        # The model knows by them which tokens are the image's.
        inputs = {name: values for name, values in inputs.items() if name != "token_type_ids"}
    if not family.text_image_end:
        yield inputs
        return
    table: Any = find_adapter(vlm, "")
    table.vocab_offset += 1  # which is the end of an image
    try:
        yield inputs
    finally:
        table.vocab_offset -= 1


async def ask_vllm(folder: Path, processor: Any, family: Family) -> VllmReplies:
    """Asks the engine each question about each image, greedily and in the family's precision.

    Args:
        folder: of the checkpoint.
        processor: of the checkpoint.
        family: whose replies begin with something that this checkpoint's do not.
    """
    engine = Engine(
        GeneratorModel(name=str(folder), dtype=family.vllm_dtype, max_len=512, max_seqs=8),
        Sampling(temperature=0, max_tokens=NUM_TOKENS),
    )
    try:
        replies = await asyncio.gather(
            *(
                _ask_question(engine, processor, image, question, history, family.reply_start)
                for image in IMAGES
                for question, history in QUESTIONS
            )
        )
        # One after the other: a request for its prompt's log-probabilities slows its batch-mates.
        replies_with_text = [await _with_text_side(engine, processor, reply) for reply in replies]
        prompt = chat.answer_prompt(processor, "What is it?", with_image=True)
        json_reply = await engine.ask(
            GenerationRequest(
                prompt_ids=chat.tokenize(processor.tokenizer, prompt),
                image=IMAGES[0],
                image_key="json",
                seed=0,
                json_schema=c3l.REPLY_JSON_SCHEMA,
            )
        )
        return VllmReplies(
            replies=replies_with_text, json_reply=json_reply.text, notes=engine.notes
        )
    finally:
        engine.close()


async def _ask_question(
    engine: Engine,
    processor: Any,
    image: Image.Image,
    question: str,
    history: chat.History,
    reply_start: str,
) -> VllmReply:
    from vllm import SamplingParams

    prompt = chat.answer_prompt(processor, question, with_image=True, history=history)
    ids = chat.tokenize(processor.tokenizer, prompt + reply_start)
    reply = await engine.ask(
        GenerationRequest(prompt_ids=ids, image=image, image_key=str(image.size), seed=0)
    )
    # `Engine.ask` returns no log-probabilities, which only this test needs.
    output = await _generate(
        engine,
        {"prompt_token_ids": ids, "multi_modal_data": {"image": image}},
        SamplingParams(temperature=0, max_tokens=NUM_TOKENS, logprobs=0),
        f"{image.size} {question}",
    )
    generated = output.outputs[0]
    assert reply.text == generated.text and reply.num_tokens == len(generated.token_ids)
    return VllmReply(
        turn=TurnToScore(
            image=image, question=question, answer=reply.text.strip(), history=history
        ),
        ids=list(generated.token_ids),
        logprobs=[
            entries[token].logprob
            for token, entries in zip(generated.token_ids, generated.logprobs, strict=True)
        ],
        text_logprobs=[],
    )


async def _with_text_side(engine: Engine, processor: Any, reply: VllmReply) -> VllmReply:
    from vllm import SamplingParams

    ids, start, end = tokenize_turn(processor, reply.turn, with_image=False)
    output = await _generate(
        engine,
        {"prompt_token_ids": ids},
        SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0),
        f"text {reply.turn.image.size} {reply.turn.question}",
    )
    logprobs = [output.prompt_logprobs[place][ids[place]].logprob for place in range(start, end)]
    return replace(reply, text_logprobs=logprobs)


async def _generate(engine: Engine, prompt: Any, params: Any, request_id: str) -> Any:
    """vLLM's own output for one request."""
    async for output in engine._llm.generate(prompt, params, request_id):
        final = output
    return final


def tokenize_turn(
    processor: Any, turn: TurnToScore, *, with_image: bool
) -> tuple[list[int], int, int]:
    """A turn's token ids, and the places [start, end) of its answer, without a scoring model."""
    text, span = chat.render_turn(
        processor, turn.question, turn.answer, with_image=with_image, history=turn.history
    )
    return chat.tokenize_with_span(processor.tokenizer, text, span)
