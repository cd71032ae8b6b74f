"""Generates turns: an image's M requests go to the engine together, so that they share its prefix.

Where answers are corrected (`methods.vigc`), each is then asked anew sentence by sentence. No
correction waits for another's step, so those of all images in the engine mix in its batches; and
what a step adds to the prompt stands at its end, so that the rest is in the engine's prefix cache.
"""

import asyncio
import logging
import time
from typing import Any

import pyarrow as pa
from PIL import Image

from c3l_ray import chat
from c3l_ray.config import INSTRUCTIONS, GenerateConfig
from c3l_ray.errors import RefusedRequest, UnusableImage
from c3l_ray.images import decode_image
from c3l_ray.inference.engine import Engine
from c3l_ray.inference.engine_protocol import Decoding, GenerationEngine, GenerationRequest, Reply
from c3l_ray.inference.engine_settings import longest_request
from c3l_ray.inference.model_check import model_family, untested_family_notes
from c3l_ray.inference.reply_reader import ReplyReader
from c3l_ray.methods import c3l, vigc
from c3l_ray.processors import load_processor
from c3l_ray.schema import Turn, replace_columns
from c3l_ray.template_date import pin_date

log = logging.getLogger(__name__)


class TurnGenerator:
    """Reads: image_id, image, error. Fills: turns, error, generate_s, notes.

    Called for several units at once, so that the engine stays full while one of them drains.

    Attributes:
        notes: what the user should know about the turns, a sentence each.

    Raises:
        EngineFailure: out of a call; the process should end.
    """

    def __init__(
        self,
        config: GenerateConfig,
        engine: GenerationEngine | None = None,
        processor: Any | None = None,
    ) -> None:
        name = config.model.name
        self.config = config
        self.processor = processor or load_processor(
            name,
            config.model.template_args,
            revision=config.model.revision,
            trust_remote_code=config.model.trust_remote_code,
        )
        pin_date(self.processor, config.prompt_date)
        self.reply_format = "json" if config.reply_format == "json" else "text"
        self.json_schema = c3l.REPLY_JSON_SCHEMA if self.reply_format == "json" else None
        self.reader = ReplyReader(self.processor)
        self.engine = engine or Engine(
            config.model,
            config.sampling,
            longest_request=longest_request(self.processor, config),
        )
        # Decoded images are large; twice what the engine works on keeps it full.
        num_decoded = max(2, 2 * config.model.max_seqs // config.turns_per_image)
        self.decoded_slots = asyncio.Semaphore(num_decoded)
        family = model_family(name, config.model.revision, config.model.trust_remote_code)
        self.notes = [*self.engine.notes, *untested_family_notes(name, family)]
        for note in self.notes:
            log.warning(note)

    async def __call__(self, table: pa.Table) -> pa.Table:
        started = time.monotonic()
        rows = table.select(["image_id", "image", "error"]).to_pylist()
        turns_and_errors = await asyncio.gather(*(self.turns_of_image(**row) for row in rows))
        seconds = time.monotonic() - started
        turns, errors = zip(*turns_and_errors, strict=True)
        return replace_columns(
            table,
            turns=turns,
            error=errors,
            generate_s=[seconds] * len(rows),
            notes=[self.notes] * len(rows),
        )

    async def turns_of_image(
        self, image_id: str, image: bytes | None, error: str | None
    ) -> tuple[list[Turn], str | None]:
        """An image's turns, and why it failed if it did."""
        if error is not None:
            return [], error
        async with self.decoded_slots:
            try:
                decoded = await asyncio.to_thread(decode_image, image, self.config.max_pixels)
            except UnusableImage as unusable:
                return [], str(unusable)
            requests = c3l.plan_requests(
                image_id,
                self.config.turns_per_image,
                self.reply_format,
                INSTRUCTIONS[self.config.method],
                seed=self.config.sampling.seed,
            )
            replies = await asyncio.gather(
                *(self.ask_turn(request, decoded, image_id) for request in requests)
            )
            turns = self.reader.read_turns(requests, replies)
            if self.config.corrects:  # every answer at its own pace, whatever image it is about
                await asyncio.gather(
                    *(
                        self.correct_turn(turn, request, decoded, image_id)
                        for turn, request in zip(turns, requests, strict=True)
                        if turn["status"] == "ok"
                    )
                )
        statuses = {turn["status"] for turn in turns}
        if "ok" in statuses:
            return turns, None
        if statuses == {"refused"}:
            return turns, f"refused: {turns[0]['reply']}"
        return turns, f"no_turn: {', '.join(sorted(statuses))}"

    async def ask_turn(
        self, request: c3l.TurnRequest, image: Image.Image, image_id: str
    ) -> Reply | RefusedRequest:
        """The engine's reply to a turn's first request, or its refusal."""
        prompt = chat.answer_prompt(self.processor, request.instruction, with_image=True)
        generation = GenerationRequest(
            prompt_ids=chat.tokenize(self.processor.tokenizer, prompt),
            image=image,
            image_key=image_id,
            seed=request.seed,
            json_schema=self.json_schema,
            keep_special_tokens=self.reader.marks_are_special,
        )
        try:
            return await self.engine.ask(generation)
        except RefusedRequest as refused:
            return refused

    async def correct_turn(
        self, turn: Turn, request: c3l.TurnRequest, image: Image.Image, image_id: str
    ) -> None:
        """Makes a turn's answer its draft, and the correction its answer where there is one."""
        question, draft = turn["question"], turn["answer"]
        assert question is not None and draft is not None  # its status is "ok"
        state = vigc.CorrectionState(rules=self.config.correction, turn=request, question=question)
        num_generated = 0
        while (continuation := vigc.next_request(state)) is not None:
            try:
                reply = await self.ask_correction(continuation, image, image_id)
            except RefusedRequest:
                state = vigc.fail_request(state, "refused")
                break
            num_generated += reply.num_tokens
            text = self.reader.split(reply.text, begun=bool(continuation.reply_start)).reply
            if text is None:
                state = vigc.fail_request(state, "thought")
            elif any(token in text for token in self.reader.special_tokens):
                state = vigc.fail_request(state, "special_tokens")
            else:
                state = vigc.accept_reply(state, text, reply.finish_reason)
        assert state.outcome is not None
        corrected = state.answer
        encoded = self.processor.tokenizer(corrected, add_special_tokens=False)
        turn["draft"] = draft
        turn["answer"] = corrected or draft
        turn["num_tokens"] = (turn["num_tokens"] or 0) + num_generated
        turn["correction"] = {
            "outcome": state.outcome,
            "num_requests": state.num_requests,
            "generated_tokens": num_generated,
            "kept_tokens": len(encoded["input_ids"]),
        }

    async def ask_correction(
        self, continuation: vigc.ContinuationRequest, image: Image.Image, image_id: str
    ) -> Reply:
        """The engine's reply to one step of a correction.

        Raises:
            RefusedRequest: by the engine, or because the chat template changes the reply's start.
        """
        rules = self.config.correction
        # A stop would cut the reply at the end of the thought's first sentence.
        stops = () if self.reader.may_think and not continuation.reply_start else continuation.stops
        try:
            prompt = chat.continuation_prompt(
                self.processor, continuation.message, continuation.reply_start, with_image=True
            )
        except ValueError as error:
            raise RefusedRequest(str(error)) from error
        return await self.engine.ask(
            GenerationRequest(
                prompt_ids=chat.tokenize(self.processor.tokenizer, prompt),
                image=image,
                image_key=image_id,
                seed=continuation.seed,
                decoding=Decoding(
                    temperature=rules.temperature,
                    max_tokens=rules.max_tokens,
                    repetition_penalty=rules.repetition_penalty,
                    stops=stops,
                    num_beams=rules.beams,
                ),
                keep_special_tokens=self.reader.marks_are_special,
            )
        )
