"""What is measured on held-out images while a model learns, and when that ends the training."""

from collections.abc import Iterator, Sequence
from typing import Any

from ray.train.collective import broadcast_from_rank_zero

from c3l_ray import chat
from c3l_ray.errors import UnusableImage
from c3l_ray.images import decode_image
from c3l_ray.methods import c3l
from c3l_ray.schema import Record
from c3l_ray.train.learning.metrics import MeasurementLine
from c3l_ray.train.learning.readable import Prompt, measure_readable_share
from c3l_ray.train.learning.trainer import Trainer
from c3l_ray.train.objectives import READABLE
from c3l_ray.train.reading import stream
from c3l_ray.train.reading.encode import load_training_processor
from c3l_ray.train.reading.training_data import TrainingData
from c3l_ray.train.training_config import TrainConfig

FEW_READABLE = 0.5


class HeldOut:
    """The held-out images of a run, as one of its workers measures on them.

    All workers make one together, and call its methods together; what they return is the same.

    Args:
        config: of the run.
        data: of the run.
        trainer: of this worker.
        measurements: the lines of the steps before this process began.

    Attributes:
        notes: what the user should know of what cannot be measured.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        trainer: Trainer,
        measurements: Sequence[MeasurementLine],
    ) -> None:
        self._config = config
        self._trainer = trainer
        self._iterator = _open_iterator(config, data, trainer)
        self._prompts: list[Prompt] = []
        self._num_prompts = 0
        self.notes: list[str] = []
        self._first_share = next(
            (line[READABLE] for line in measurements if READABLE in line), None
        )
        if config.objective == "answers" and config.answers.readable_replies:
            self._load_prompts(data)

    def evaluate(self, accumulation_steps: int) -> MeasurementLine:
        """The means of the loss and its parts, by their names in a line; empty without images."""
        if self._iterator is None:
            return {}
        batches = stream.iter_batches(self._iterator, accumulation_steps)
        means = self._trainer.evaluate(batches)
        return {f"held_out_{name}": value for name, value in means.items()}

    def measure_first_share(self) -> MeasurementLine:
        """The share of readable replies before the first step; empty where it is known already."""
        line = self.measure_share() if self._first_share is None else {}
        self._first_share = line.get(READABLE, self._first_share)
        if self._first_share is not None and self._first_share < FEW_READABLE:
            self.notes.append(
                f"of {self._num_prompts} replies that the model wrote before it was tuned, "
                f"{self._first_share:.0%} were readable"
            )
        return line

    def measure_share(self) -> MeasurementLine:
        """The share of readable replies, by its name in a line; empty where it is not measured."""
        if not self._num_prompts:
            return {}
        processor = load_training_processor(self._config)
        share = measure_readable_share(self._trainer, self._prompts, self._num_prompts, processor)
        return {READABLE: share}

    def explain_stop(self, line: MeasurementLine) -> str | None:
        """Why the training must not go on after a measurement; None where it may."""
        share, first_share = line.get(READABLE), self._first_share
        if share is None or first_share is None:
            return None
        if share >= self._config.answers.min_readable * first_share:
            return None
        return (
            f"of the replies to {self._num_prompts} instructions about held-out images "
            f"{share:.1%} are readable, and {first_share:.1%} were at the start, which is less "
            f"than {self._config.flag('answers.min_readable')} "
            f"{self._config.answers.min_readable:g} of it"
        )

    def _load_prompts(self, data: TrainingData) -> None:
        """This worker's part of the prompts: as many as the other workers', the last ones anew."""
        num_wanted = self._config.answers.readable_replies
        processor = load_training_processor(self._config)
        prompts: list[Prompt] = []
        for record, instruction in _iter_instructions(data, num_wanted):
            try:
                image = decode_image(record["image"], self._config.image_pixels)
            except UnusableImage:
                continue
            text = chat.answer_prompt(processor, instruction, with_image=True)
            prompts.append(Prompt(image=image, text=text, number=len(prompts)))
            if len(prompts) == num_wanted:
                break
        if not prompts:
            self.notes.append(
                "whether the tuned model still writes readable replies was not measured: no "
                f"held-out image has a turn of our own kinds "
                f"({self._config.flag('progress.held_out')} is "
                f"{self._config.progress.held_out:g})"
            )
            return
        self._num_prompts = len(prompts)
        rank, num_workers = self._trainer.rank, self._trainer.num_workers
        for number in range(rank, -(-len(prompts) // num_workers) * num_workers, num_workers):
            prompt = prompts[number % len(prompts)]
            self._prompts.append(Prompt(image=prompt.image, text=prompt.text, number=number))


def _iter_instructions(data: TrainingData, num_images: int) -> Iterator[tuple[Record, str]]:
    """Instructions about the first held-out images: one of each, then another of each, and so on.

    Args:
        data: of the run.
        num_images: to take at most.
    """
    records: list[Record] = []
    for file in data.held_out:
        rows = file.rows[: num_images - len(records)]
        records += data.read(file.address, rows) if rows else []
    asked = [
        [
            instruction
            for turn in record["turns"]
            if (instruction := c3l.asking_instruction(turn["kind"], turn["instruction"]))
        ]
        for record in records
    ]
    for place in range(max(map(len, asked), default=0)):
        for record, instructions in zip(records, asked, strict=True):
            if place < len(instructions):
                yield record, instructions[place]


def _open_iterator(config: TrainConfig, data: TrainingData, trainer: Trainer) -> Any | None:
    """What to iterate over at an evaluation, or None where nothing is held out."""
    if not data.held_out:
        return None
    iterators = None
    if trainer.rank == 0:
        iterators = stream.stream_held_out(config, data, num_workers=trainer.num_workers)
    return broadcast_from_rank_zero(iterators)[trainer.rank]
