"""Samples more answers to a question: K requests after one prompt, which the engine computes once.

Each sample is a request with a seed of its own, so that it is the same whatever K is, and one that
the engine refuses is one sample. vLLM would make the same K requests of one with `n`: measured on
the shipped model, both take the same time and sample the same texts.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from PIL import Image

from c3l_ray import chat
from c3l_ray.config import GeneratingConfig
from c3l_ray.errors import RefusedRequest, first_line
from c3l_ray.inference.engine_protocol import Decoding, GenerationEngine, GenerationRequest, Reply
from c3l_ray.inference.reply_reader import ReplyReader
from c3l_ray.methods import alternatives, c3l
from c3l_ray.schema import Turn, TurnStatus


@dataclass(frozen=True, kw_only=True)
class AnswerPrompt:
    """After what an answer is sampled.

    Attributes:
        text: rendered.
        reply_start: what it ends with of the model's own reply, the question in it; else empty.
    """

    text: str
    reply_start: str = ""


class AnswerSampler:
    """Asks for the alternatives of turns.

    Args:
        config: how many, and how they are drawn.
        processor: of the model.
        engine: that is asked.
        reader: of the model's replies.
    """

    def __init__(
        self,
        config: GeneratingConfig,
        processor: Any,
        engine: GenerationEngine,
        reader: ReplyReader,
    ) -> None:
        self.num_answers = config.answers
        self.sampling = config.answer_sampling
        self.processor = processor
        self.engine = engine
        self.reader = reader

    async def sample_alternatives(
        self,
        turn: Turn,
        image: Image.Image,
        image_id: str,
        *,
        seed: int,
        history: chat.History = (),
    ) -> None:
        """Fills a turn's alternatives, and counts their tokens with the turn's.

        A turn of our own kinds is asked after the prompt that posed its question, one made
        elsewhere after the bare question. Where the chat template takes no such prompt, all
        answers are one alternative of status "refused".

        Args:
            turn: of status "ok".
            image: that it is about.
            image_id: of it.
            seed: of the turn.
            history: the questions and answers before a turn made elsewhere that follows others.

        Raises:
            EngineFailure: the engine is gone.
        """
        try:
            prompt = self.make_prompt(turn, history)
        except Exception as error:  # whatever a chat template raises
            samples: list[tuple[str, TurnStatus]] = [(first_line(error), "refused")]
            turn["alternatives"] = alternatives.merge_samples(samples * self.num_answers)
            return
        pattern, stops = alternatives.limit_answer(prompt.reply_start)
        ids = chat.tokenize(self.processor.tokenizer, prompt.text)
        requests = [
            GenerationRequest(
                prompt_ids=ids,
                image=image,
                image_key=image_id,
                seed=alternatives.draw_answer_seed(seed, number),
                pattern=pattern,
                decoding=Decoding(
                    temperature=self.sampling.temperature,
                    top_p=self.sampling.top_p,
                    max_tokens=self.sampling.max_tokens,
                    stops=stops,
                ),
                keep_special_tokens=self.reader.marks_are_special,
            )
            for number in range(self.num_answers)
        ]
        replies = await asyncio.gather(*map(self._ask, requests))
        turn["alternatives"] = alternatives.merge_samples(
            (str(reply), "refused")
            if isinstance(reply, RefusedRequest)
            else self.reader.read_answer(reply, prompt.reply_start)
            for reply in replies
        )
        num_tokens = sum(reply.num_tokens for reply in replies if isinstance(reply, Reply))
        turn["num_tokens"] = (turn.get("num_tokens") or 0) + num_tokens

    def make_prompt(self, turn: Turn, history: chat.History) -> AnswerPrompt:
        """The prompt after which a turn's question is answered.

        Raises:
            Exception: the chat template does not take it.
        """
        question = turn["question"]
        assert question is not None  # its status is "ok"
        if instruction := c3l.asking_instruction(turn["kind"], turn["instruction"]):
            start = c3l.begin_reply(question, instruction)
            text = chat.continuation_prompt(self.processor, instruction, start, with_image=True)
            return AnswerPrompt(text=text, reply_start=start)
        text = chat.answer_prompt(
            self.processor,
            question,
            with_image=True,
            history=history,
            system=c3l.system_message(turn["kind"], turn["instruction"]),
        )
        return AnswerPrompt(text=text)

    async def _ask(self, request: GenerationRequest) -> Reply | RefusedRequest:
        try:
            return await self.engine.ask(request)
        except RefusedRequest as refused:
            return refused
