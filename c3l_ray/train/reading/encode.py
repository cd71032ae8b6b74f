"""The records of a batch as the tensors of its micro-batches: what reading tasks do."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from c3l_ray import processors
from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.image_memo import preprocess_once
from c3l_ray.methods.labels import ScoreQuantiles
from c3l_ray.schema import Record
from c3l_ray.train.reading.batches import MicroBatch, make_micro_batch
from c3l_ray.train.reading.chat_text import Example, SkipReason
from c3l_ray.train.reading.examples import make_example
from c3l_ray.train.reading.mixture import TurnDraw
from c3l_ray.train.reading.order import split_batch
from c3l_ray.train.training_config import TrainConfig


def encode_batch(
    records: Sequence[Record],
    config: TrainConfig,
    quantiles: ScoreQuantiles,
    *,
    num_workers: int,
    accumulation_steps: int,
    draws: Sequence[TurnDraw | None] | None = None,
) -> Iterator[MicroBatch]:
    """The micro-batches of one batch: all workers' first ones, then their second ones, and so on.

    All have the same number of images: places that are left over, and those of records that the
    model cannot read as they are, hold another example at weight 0. The latter are counted.

    Args:
        records: of the batch, with their images.
        config: of the run.
        quantiles: of the scores, for --labels.within kind.
        num_workers: that share the batch.
        accumulation_steps: micro-batches of each worker.
        draws: of the mixture, one for each record.

    Raises:
        C3LError: no record of the batch can be used.
    """
    processor = load_processor(config.model.name, config.model.template_args)
    examples = [
        make_example(record, processor, config, quantiles, draw)
        for record, draw in zip(records, draws or [None] * len(records), strict=True)
    ]
    size = -(-len(records) // (num_workers * accumulation_steps))
    for part in split_batch(len(records), num_workers, accumulation_steps):
        while True:
            filler = next((example for example in examples if isinstance(example, Example)), None)
            if filler is None:
                raise C3LError(
                    f"none of the {len(records)} images of a batch can be learnt from: undecodable "
                    f"images, texts that the model's tokenizer does not take as they are, or more "
                    f"tokens than {config.flag('model.max_len')} {config.model.max_len}"
                )
            own = [example if isinstance(example, Example) else None for example in examples[part]]
            chosen = [*own, *[None] * (size - len(own))]
            micro_batch = make_micro_batch(
                [example or filler for example in chosen],
                [float(example is not None) for example in chosen],
                processor,
                [reason for reason in examples[part] if not isinstance(reason, Example)],
            )
            too_long = find_too_long(micro_batch, config.model.max_len)
            if not too_long:
                break
            _skip_examples(examples, [chosen[number] or filler for number in too_long])
        yield micro_batch


def find_too_long(micro_batch: MicroBatch, max_len: int) -> list[int]:
    """The numbers of the images that have a text of more tokens."""
    is_long_R = micro_batch["attention_mask"].sum(dim=1) > max_len
    owners: list[int] = micro_batch["owner_R"][is_long_R].tolist()
    return sorted(set(owners))


def _skip_examples(examples: list[Example | SkipReason], too_long: list[Example]) -> None:
    for number, example in enumerate(examples):
        if any(example is long_example for long_example in too_long):
            examples[number] = "too_long"


def check_takes_text(name: str) -> None:
    """Refuses a model that takes no text without an image: the objectives compare the two.

    Raises:
        PreflightError: its processor refuses one.
    """
    processor = load_processor(name)
    try:
        processor(text=["What is it?"], return_tensors="pt")
    except Exception as error:  # processors raise errors of many kinds
        raise PreflightError(
            f"--model.name {name}: takes no text without an image, so it cannot be tuned here "
            f"({error})"
        ) from error


@cache  # a reading task makes many batches
def load_processor(name: str, template_args: tuple[str, ...] = ()) -> Any:
    """The processor of a model, which preprocesses an image once for its texts."""
    return preprocess_once(processors.load_processor(name, template_args))
