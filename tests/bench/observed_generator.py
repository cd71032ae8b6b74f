"""The generator of a scored job, with notes of when the turns of each image were there."""

import time
from pathlib import Path

import pyarrow as pa
from PIL import Image

from c3l_ray.config import GenerateConfig
from c3l_ray.inference.engine_protocol import GenerationEngine
from c3l_ray.inference.turn_generator import TurnGenerator
from c3l_ray.schema import Turn
from tests.bench.pipeline_input import draw_true_turns, read_scene_numbers
from tests.bench.pipeline_work import GENERATED, Setting


class ObservedGenerator(TurnGenerator):
    """Generates as the job does, and notes when it began and when the turns of each image came.

    Where the setting says so, true turns then take the place of the replies: those of a random
    model cannot be read, so that there would be nothing to score.
    """

    def __init__(self, config: GenerateConfig, engine: GenerationEngine | None = None) -> None:
        super().__init__(config, engine)
        folder = Path(config.output).parent
        setting = Setting.read(folder)
        self.notes_file = folder / GENERATED
        self.scene_numbers = read_scene_numbers(setting.requests) if setting.draws_turns else None

    async def __call__(self, table: pa.Table) -> pa.Table:
        if not self.notes_file.exists():
            self.note()
        return await super().__call__(table)

    async def ask_about(
        self, image: Image.Image, image_id: str, turns: list[Turn]
    ) -> tuple[list[Turn], str | None]:
        turns, error = await super().ask_about(image, image_id, turns)
        self.note()
        if self.scene_numbers is None:
            return turns, error
        draw_true_turns(turns, self.scene_numbers[image_id])
        return turns, None

    def note(self) -> None:
        with self.notes_file.open("a") as file:
            file.write(f"{time.time()}\n")
