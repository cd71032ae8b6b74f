"""The generator in its process: the model in its engine, asked about the images of whole units."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import pyarrow as pa
from PIL import Image

from c3l_ray.config import GeneratingConfig
from c3l_ray.errors import UnusableImage
from c3l_ray.images import decode_image
from c3l_ray.inference.answer_sampler import AnswerSampler
from c3l_ray.inference.engine import Engine
from c3l_ray.inference.engine_protocol import GenerationEngine
from c3l_ray.inference.engine_settings import longest_request
from c3l_ray.inference.model_check import model_family, untested_family_notes
from c3l_ray.inference.reply_reader import ReplyReader
from c3l_ray.processors import load_processor
from c3l_ray.schema import Turn, replace_columns
from c3l_ray.template_date import pin_date

Config = TypeVar("Config", bound=GeneratingConfig)

log = logging.getLogger(__name__)


class Generator(ABC, Generic[Config]):
    """Reads: image_id, image, turns, error. Fills: turns, error, generate_s, notes.

    Called for several units at once, so that the engine stays full while one of them drains.

    Args:
        config: of the job.
        engine: if not vLLM with the config's model.
        processor: if not that of the config's model.
        requests_per_image: that go to the engine together, about.

    Attributes:
        notes: what the user should know about the replies, a sentence each.

    Raises:
        EngineFailure: out of a call; the process should end.
    """

    def __init__(
        self,
        config: Config,
        engine: GenerationEngine | None = None,
        processor: Any | None = None,
        *,
        requests_per_image: int,
    ) -> None:
        model = config.model
        self.config = config
        self.processor = processor or load_processor(
            model.name,
            model.template_args,
            revision=model.revision,
            trust_remote_code=model.trust_remote_code,
        )
        pin_date(self.processor, config.prompt_date)
        self.reader = ReplyReader(self.processor)
        self.engine = engine or Engine(
            model, config.sampling, longest_request=longest_request(self.processor, config)
        )
        self.sampler = AnswerSampler(config, self.processor, self.engine, self.reader)
        # Decoded images are large; twice what the engine works on keeps it full.
        num_decoded = max(2, 2 * model.max_seqs // requests_per_image)
        self.decoded_slots = asyncio.Semaphore(num_decoded)
        family = model_family(model.name, model.revision, model.trust_remote_code)
        self.notes = [*self.engine.notes, *untested_family_notes(model.name, family)]
        for note in self.notes:
            log.warning(note)

    async def __call__(self, table: pa.Table) -> pa.Table:
        started = time.monotonic()
        rows = table.select(["image_id", "image", "turns", "error"]).to_pylist()
        turns_and_errors = await asyncio.gather(*(self._fill_row(**row) for row in rows))
        seconds = time.monotonic() - started
        turns, errors = zip(*turns_and_errors, strict=True)
        return replace_columns(
            table,
            turns=turns,
            error=errors,
            generate_s=[seconds] * len(rows),
            notes=[self.notes] * len(rows),
        )

    async def _fill_row(
        self, image_id: str, image: bytes | None, turns: list[Turn] | None, error: str | None
    ) -> tuple[list[Turn], str | None]:
        """An image's turns, and why it failed if it did."""
        turns = turns or []
        if error is not None:
            return turns, error
        async with self.decoded_slots:
            try:
                decoded = await asyncio.to_thread(decode_image, image, self.config.max_pixels)
            except UnusableImage as unusable:
                return turns, str(unusable)
            return await self.ask_about(decoded, image_id, turns)

    @abstractmethod
    async def ask_about(
        self, image: Image.Image, image_id: str, turns: list[Turn]
    ) -> tuple[list[Turn], str | None]:
        """The turns of an image, and why it failed if it did.

        Args:
            image: decoded.
            image_id: of it.
            turns: that it came with.
        """
