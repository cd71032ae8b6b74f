"""Generate: an image's M turns, asked of the engine together so that they share its prefix.

Where answers are corrected (methods.vigc), each is then asked anew sentence by sentence. Nothing
waits for another answer's round, so those of all images in the engine mix in its batches; and what
a round adds to the prompt stands at its end, so that the rest is in the engine's prefix cache.
"""

import asyncio
import time
from collections.abc import Sequence, Set
from typing import Any, Protocol

import pyarrow as pa
from PIL import Image

from c3l_ray import chat
from c3l_ray.config import INSTRUCTIONS, GenerateConfig
from c3l_ray.errors import UnusableImage, RefusedRequest
from c3l_ray.images import decode
from c3l_ray.inference.engine import Decoding, Engine, Reply
from c3l_ray.methods import c3l, vigc
from c3l_ray.model_files import local
from c3l_ray.schema import replace_columns


class Asks(Protocol):
    """What Generate needs of an engine: `Engine`, or a double in a test."""

    async def ask(
        self,
        prompt_ids: list[int],
        image: Image.Image,
        *,
        image_key: str,
        seed: int,
        schema: dict[str, Any] | None = None,
        decoding: Decoding | None = None,
    ) -> Reply: ...


class Generate:
    """Reads: image_id, image, error. Fills: turns, error, generate_s.

    Called for several units at once, so that the engine stays full while one of them drains.

    Raises:
        EngineFailure: out of a call; the process should end.
    """

    def __init__(
        self, config: GenerateConfig, engine: Asks | None = None, processor: Any | None = None
    ) -> None:
        from transformers import AutoProcessor

        self.config = config
        self.processor = processor or AutoProcessor.from_pretrained(local(config.model.name))
        self.reply_format = "json" if config.reply_format == "json" else "text"
        self.schema = c3l.REPLY_JSON_SCHEMA if self.reply_format == "json" else None
        self.special = chat.special_tokens(self.processor)
        self.engine = engine or Engine(config.model, config.sampling)
        # Decoded images are large; twice what the engine works on keeps it full.
        self.room = asyncio.Semaphore(max(2, 2 * config.model.max_seqs // config.turns))

    async def __call__(self, table: pa.Table) -> pa.Table:
        started = time.monotonic()
        rows = table.select(["image_id", "image", "error"]).to_pylist()
        answers = await asyncio.gather(*(self.row(**row) for row in rows))
        seconds = time.monotonic() - started
        turns, errors = zip(*answers, strict=True)
        return replace_columns(table, turns=turns, error=errors, generate_s=[seconds] * len(rows))

    async def row(
        self, image_id: str, image: bytes | None, error: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """An image's turns, and why it failed if it did."""
        if error is not None:
            return [], error
        async with self.room:
            try:
                decoded = await asyncio.to_thread(decode, image, self.config.max_pixels)
            except UnusableImage as unusable:
                return [], str(unusable)
            asked = c3l.plan_requests(
                image_id, self.config.turns, self.reply_format, INSTRUCTIONS[self.config.method]
            )
            replies = await asyncio.gather(
                *(self.reply(request, decoded, image_id) for request in asked)
            )
            turns = read(asked, replies, self.special)
            if self.config.corrects:  # every answer at its own pace, whichever image it is of
                await asyncio.gather(
                    *(
                        self.correct(turn, request, decoded, image_id)
                        for turn, request in zip(turns, asked, strict=True)
                        if turn["status"] == "ok"
                    )
                )
        statuses = {turn["status"] for turn in turns}
        if "ok" in statuses:
            return turns, None
        if statuses == {"refused"}:
            return turns, f"refused: {turns[0]['reply']}"
        return turns, f"no_turn: {', '.join(sorted(statuses))}"

    async def reply(
        self, request: c3l.TurnRequest, image: Image.Image, image_id: str
    ) -> Reply | RefusedRequest:
        prompt = chat.answer_prompt(self.processor, request.instruction, image=True)
        ids = chat.token_ids(self.processor.tokenizer, prompt)
        try:
            return await self.engine.ask(
                ids, image, image_key=image_id, seed=request.seed, schema=self.schema
            )
        except RefusedRequest as refused:
            return refused

    async def correct(
        self, turn: dict[str, Any], request: c3l.TurnRequest, image: Image.Image, image_id: str
    ) -> None:
        """Makes a turn's answer its draft, and the correction its answer where any comes."""
        state = vigc.CorrectionState(rules=self.config.correction, turn=request, question=turn["question"])
        num_tokens = 0
        while (ask := vigc.next_request(state)) is not None:
            try:
                reply = await self.round(ask, image, image_id)
            except RefusedRequest:
                state = vigc.end_refused(state)
                break
            num_tokens += reply.num_tokens
            if any(token in reply.text for token in self.special):
                state = vigc.end_refused(state)
            else:
                state = vigc.accept_reply(state, reply.text, reply.finish)
        kept = state.answer
        turn |= {
            "draft": turn["answer"],
            "answer": kept or turn["answer"],
            "num_tokens": turn["num_tokens"] + num_tokens,
            "correction": {
                "ended": state.ended,
                "requests": state.num_requests,
                "tokens": num_tokens,
                "kept_tokens": len(
                    self.processor.tokenizer(kept, add_special_tokens=False)["input_ids"]
                ),
            },
        }

    async def round(self, ask: vigc.ContinuationRequest, image: Image.Image, image_id: str) -> Reply:
        rules = self.config.correction
        try:
            prompt = chat.begun_prompt(self.processor, ask.message, ask.reply_start, image=True)
        except ValueError as error:
            raise RefusedRequest(str(error)) from error
        return await self.engine.ask(
            chat.token_ids(self.processor.tokenizer, prompt),
            image,
            image_key=image_id,
            seed=ask.seed,
            decoding=Decoding(
                temperature=rules.temperature,
                max_tokens=rules.max_tokens,
                repetition_penalty=rules.repetition_penalty,
                stops=ask.stops,
                beams=rules.beams,
            ),
        )


def read(
    asked: list[c3l.TurnRequest], replies: Sequence[Reply | RefusedRequest], special: Set[str]
) -> list[dict[str, Any]]:
    """Replies as the turns of one image, each with a status of its own.

    Args:
        asked: the image's requests.
        replies: to each of them.
        special: texts that a tokenizer reads as more than text: such a turn could not be asked.
    """
    turns: list[dict[str, Any]] = []
    seen: set[str] = set()
    for request, reply in zip(asked, replies, strict=True):
        turn: dict[str, Any] = {"kind": request.kind, "instruction": request.instruction}
        turns.append(turn)
        if isinstance(reply, RefusedRequest):
            turn |= {"status": "refused", "reply": str(reply)}
            continue
        question, answer = c3l.parse_reply(reply.text) or (None, None)
        if reply.finish == "length":
            status = "truncated"
        elif question is None or any(token in reply.text for token in special):
            status = "unparsable"
        elif not answer:
            status = "empty"
        elif question.casefold() in seen:
            status = "duplicate"
        else:
            status = "ok"
            seen.add(question.casefold())
        turn |= {
            "question": question,
            "answer": answer,
            "reply": None if status in ("ok", "duplicate") else reply.text,
            "status": status,
            "finish": reply.finish,
            "num_tokens": reply.num_tokens,
        }
    return turns
