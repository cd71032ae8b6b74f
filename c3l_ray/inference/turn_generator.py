"""Generates turns: an image's M requests go to the engine together, so that they share its prefix.

Where answers are corrected (`methods.vigc`), each is then asked anew sentence by sentence. No
correction waits for another's step, so those of all images in the engine mix in its batches; and
what a step adds to the prompt stands at its end, so that the rest is in the engine's prefix cache.
Alternatives belong to the question, not to an answer: they are sampled beside the correction.
"""

import asyncio
from functools import lru_cache
from typing import Any

from PIL import Image

from c3l_ray import chat
from c3l_ray.config import GenerateConfig
from c3l_ray.errors import RefusedRequest
from c3l_ray.inference.engine_protocol import Decoding, GenerationEngine, GenerationRequest, Reply
from c3l_ray.inference.generator import Generator
from c3l_ray.methods import c3l, vigc
from c3l_ray.schema import Turn

PROMPTS_KEPT = 256  # of our instructions there are 40, of which every image is asked some


class TurnGenerator(Generator[GenerateConfig]):
    """Writes the turns of an image, corrects them where asked, and samples their alternatives."""

    def __init__(
        self,
        config: GenerateConfig,
        engine: GenerationEngine | None = None,
        processor: Any | None = None,
    ) -> None:
        super().__init__(config, engine, processor, requests_per_image=config.turns_per_image)
        self.reply_format = "json" if config.reply_format == "json" else "text"
        self.json_schema = c3l.REPLY_JSON_SCHEMA if self.reply_format == "json" else None
        self.read_prompt = lru_cache(PROMPTS_KEPT)(self._read_prompt)

    async def ask_about(
        self, image: Image.Image, image_id: str, turns: list[Turn]
    ) -> tuple[list[Turn], str | None]:
        config = self.config
        requests = c3l.plan_requests(
            image_id,
            config.turns_per_image,
            self.reply_format,
            config.asked_wordings,
            seed=config.sampling.seed,
        )
        replies = await asyncio.gather(
            *(self.ask_turn(request, image, image_id) for request in requests)
        )
        turns = self.reader.read_turns(requests, replies)
        asking = []  # every answer at its own pace, whatever image it is about
        for turn, request in zip(turns, requests, strict=True):
            if turn["status"] == "ok" and config.corrects:
                asking.append(self.correct_turn(turn, request, image, image_id))
            if turn["status"] == "ok" and config.answers:
                asking.append(
                    self.sampler.sample_alternatives(turn, image, image_id, seed=request.seed)
                )
        await asyncio.gather(*asking)
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
        generation = GenerationRequest(
            prompt_ids=self.read_prompt(request.instruction),
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

    def _read_prompt(self, instruction: str) -> list[int]:
        """The tokens after which the model replies to an instruction."""
        prompt = chat.answer_prompt(self.processor, instruction, with_image=True)
        return chat.tokenize(self.processor.tokenizer, prompt)

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
