"""Whether the first images fit into --model.max-len, seen before the start."""

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter

from c3l_ray.errors import PreflightError, UnusableImage
from c3l_ray.images import decode_image
from c3l_ray.methods.cgvlm import CAPTION_INSTRUCTION
from c3l_ray.schema import Record
from c3l_ray.train.reading.batches import MicroBatch, make_micro_batch
from c3l_ray.train.reading.chat_text import Example, SkipReason, reply_text
from c3l_ray.train.reading.encode import (
    explain_nothing_usable,
    find_too_long,
    load_training_processor,
)
from c3l_ray.train.reading.examples import make_example
from c3l_ray.train.reading.training_data import TrainingData
from c3l_ray.train.training_config import TrainConfig

NUM_CHECKED_IMAGES = 8
MAX_FILLER_IMAGES = 1024
READ_AT_ONCE = 64

log = logging.getLogger(__name__)


def check_lengths(data: TrainingData, config: TrainConfig) -> list[MicroBatch]:
    """Counts the tokens of the first images, before all of them are skipped one by one.

    Warns where some of them will be skipped.

    Args:
        data: to learn from.
        config: of the run.

    Returns:
        A micro-batch of each of them that is not skipped.

    Raises:
        PreflightError: all of them need more tokens than --model.max-len.
        C3LError: they cannot be read.
    """
    processor = load_training_processor(config)
    examples = (
        make_example(record, processor, config, data.quantiles)
        for record in _read_first(data, NUM_CHECKED_IMAGES)
    )
    return _check_examples(examples, config, "with their texts")


def check_image_lengths(images: Iterable[bytes], config: TrainConfig) -> list[MicroBatch]:
    """Counts the tokens of images about which no turn is written yet, each with a short prompt.

    Args:
        images: first ones of those that a generation will see.
        config: of the training that follows it.

    Returns:
        As `check_lengths`.

    Raises:
        PreflightError: all of them need more tokens than the training's --model.max-len.
    """
    processor = load_training_processor(config)

    def make_shortest(content: bytes) -> Example | SkipReason:
        try:
            image = decode_image(content, config.image_pixels)
        except UnusableImage:
            return "unusable_image"
        try:
            text = reply_text(processor, CAPTION_INSTRUCTION, "Yes.", target=True)
        except ValueError:
            return "altered_text"
        return Example(image=image, texts=(text,), num_turns=1)

    return _check_examples(map(make_shortest, images), config, "with the shortest of texts")


def find_filler(data: TrainingData, config: TrainConfig) -> Record:
    """The first record that can be learnt from, which stands in for batches that have none.

    Args:
        data: to learn from.
        config: of the run.

    Raises:
        PreflightError: there is none among the first 1,024.
        C3LError: they cannot be read.
    """
    processor = load_training_processor(config)
    num_read = 0
    for record in _read_first(data, MAX_FILLER_IMAGES):
        num_read += 1
        example = make_example(record, processor, config, data.quantiles)
        if isinstance(example, Example):
            micro_batch = make_micro_batch([example], [1.0], processor)
            if not find_too_long(micro_batch, config.model.max_len):
                return record
    what = f"the first {num_read} images"
    raise PreflightError(f"{config.named_input}: {explain_nothing_usable(what, config)}")


def _check_examples(
    examples: Iterable[Example | SkipReason], config: TrainConfig, texts: str
) -> list[MicroBatch]:
    """The micro-batch of each example that is short enough.

    Raises:
        PreflightError: all of them need more tokens than --model.max-len.
    """
    processor = load_training_processor(config)
    flag, max_len = config.flag("model.max_len"), config.model.max_len
    micro_batches: list[MicroBatch] = []
    lengths: list[int] = []
    skipped: Counter[str] = Counter()
    for example in examples:
        if isinstance(example, Example):
            micro_batch = make_micro_batch([example], [1.0], processor)
            micro_batches.append(micro_batch)
            lengths.append(int(micro_batch["attention_mask"].sum(dim=1).max()))
        else:
            skipped[example] += 1
    if lengths and min(lengths) > max_len:
        raise PreflightError(
            f"{flag} {max_len}: the first {len(lengths)} images need {_format_range(lengths)} "
            f"tokens {texts}, and longer ones are skipped; raise it above {max(lengths):,}, or "
            "lower --max-pixels where the model cuts large images into more tokens"
        )
    skipped["too_long"] = sum(length > max_len for length in lengths)
    if skipped.total():
        num_images = len(lengths) + skipped.total() - skipped["too_long"]
        counts = ", ".join(f"{reason} {count}" for reason, count in skipped.items() if count)
        longest = f", and they need up to {max(lengths):,} tokens" if skipped["too_long"] else ""
        log.warning(
            "of the first %d images %d will be skipped (%s); %s is %d%s",
            *(num_images, skipped.total(), counts, flag, max_len, longest),
        )
    return [
        micro_batch
        for micro_batch, length in zip(micro_batches, lengths, strict=True)
        if length <= max_len
    ]


def _read_first(data: TrainingData, num_images: int) -> Iterator[Record]:
    """The first records to learn from, with their images; no more are read than are asked for."""
    places = ((file.address, row) for file in data.files for row in file.rows)
    for address, group in itertools.groupby(itertools.islice(places, num_images), itemgetter(0)):
        rows = [row for _, row in group]
        for first in range(0, len(rows), READ_AT_ONCE):
            yield from data.read(address, rows[first : first + READ_AT_ONCE])


def _format_range(lengths: list[int]) -> str:
    shortest, longest = min(lengths), max(lengths)
    return f"{shortest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
