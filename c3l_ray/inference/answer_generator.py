"""Samples more answers to the questions of turns that are there already."""

import asyncio
from typing import Any

from PIL import Image

from c3l_ray.answer_config import AnswerConfig
from c3l_ray.inference.engine_protocol import GenerationEngine
from c3l_ray.inference.generator import Generator
from c3l_ray.methods import alternatives
from c3l_ray.schema import FOLLOW_UP, Turn


class AnswerGenerator(Generator[AnswerConfig]):
    """Fills the alternatives of each usable turn anew; all else of the turns stays as it is.

    A turn is asked given the same turns before it as it is scored (`TurnScorer`). One with a
    special token of the model in what is asked has none: the model would read more than the text.
    """

    def __init__(
        self,
        config: AnswerConfig,
        engine: GenerationEngine | None = None,
        processor: Any | None = None,
    ) -> None:
        super().__init__(config, engine, processor, requests_per_image=config.answers)

    async def ask_about(
        self, image: Image.Image, image_id: str, turns: list[Turn]
    ) -> tuple[list[Turn], str | None]:
        asking, history = [], list[tuple[str, str]]()
        for place, turn in enumerate(turns):
            turn["alternatives"] = None  # those of an earlier run are of another model
            question, answer = turn.get("question"), turn.get("answer")
            if turn["status"] != "ok" or question is None or answer is None:
                continue
            before = tuple(history) if turn["kind"] == FOLLOW_UP else ()
            history.append((question, answer))
            texts = (question, turn["instruction"], *(text for pair in before for text in pair))
            if any(token in text for token in self.reader.special_tokens for text in texts):
                continue
            seed = alternatives.draw_turn_seed(image_id, place, seed=self.config.sampling.seed)
            asking.append(
                self.sampler.sample_alternatives(turn, image, image_id, seed=seed, history=before)
            )
        await asyncio.gather(*asking)
        return turns, None
