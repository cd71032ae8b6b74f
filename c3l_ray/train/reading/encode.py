"""The records of a batch as the tensors of its micro-batches: what reading tasks do."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import torch

from c3l_ray import processors
from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.image_memo import preprocess_once
from c3l_ray.methods.labels import ScoreQuantiles
from c3l_ray.schema import Record
from c3l_ray.template_date import pin_date
from c3l_ray.train.reading.batches import MicroBatch, make_micro_batch
from c3l_ray.train.reading.chat_text import Example, SkipReason
from c3l_ray.train.reading.examples import make_example
from c3l_ray.train.reading.mixture import TurnDraw
from c3l_ray.train.reading.order import split_batch
from c3l_ray.train.training_config import TrainConfig

MAX_EMPTY_BATCHES = 8
"""In a row, of which no image can be learnt from: more of them are no accident."""


def encode_batch(
    records: Sequence[Record],
    config: TrainConfig,
    quantiles: ScoreQuantiles,
    *,
    num_workers: int,
    accumulation_steps: int,
    draws: Sequence[TurnDraw | None] | None = None,
    filler: Record | None = None,
) -> Iterator[MicroBatch]:
    """The micro-batches of one batch: all workers' first ones, then their second ones, and so on.

    All have the same number of images: places that are left over, and those of records that the
    model cannot read as they are, hold another example at weight 0. The latter are counted. Where
    nothing of the batch can be learnt from, that is the filler in all of its places, and `is_empty`
    says so: the same for all workers.

    Args:
        records: of the batch, with their images.
        config: of the run.
        quantiles: of the scores, for --labels.within kind.
        num_workers: that share the batch.
        accumulation_steps: micro-batches of each worker.
        draws: of the mixture, one for each record.
        filler: a record that can be learnt from, where the run knows one.

    Raises:
        C3LError: no record of the batch can be used, nor the filler.
    """
    processor = load_training_processor(config)
    examples = [
        make_example(record, processor, config, quantiles, draw)
        for record, draw in zip(records, draws or [None] * len(records), strict=True)
    ]
    nothing_usable = explain_nothing_usable(f"the {len(records)} images of a batch", config)
    size = -(-len(records) // (num_workers * accumulation_steps))
    for part in split_batch(len(records), num_workers, accumulation_steps):
        while True:
            usable = next((example for example in examples if isinstance(example, Example)), None)
            is_empty = usable is None
            if usable is None:
                filling = filler and make_example(filler, processor, config, quantiles)
                if not isinstance(filling, Example):
                    raise C3LError(nothing_usable)
                usable = filling
            own = [example if isinstance(example, Example) else None for example in examples[part]]
            chosen = [*own, *[None] * (size - len(own))]
            micro_batch = make_micro_batch(
                [example or usable for example in chosen],
                [float(example is not None) for example in chosen],
                processor,
                [reason for reason in examples[part] if not isinstance(reason, Example)],
            )
            too_long = find_too_long(micro_batch, config.model.max_len)
            if not too_long:
                break
            if is_empty:
                raise C3LError(nothing_usable)
            _skip_examples(examples, [chosen[number] or usable for number in too_long])
        yield {**micro_batch, "is_empty": torch.tensor(is_empty)}


def explain_nothing_usable(what: str, config: TrainConfig) -> str:
    """Why none of some images can be learnt from.

    Args:
        what: the images, in words.
        config: of the run.
    """
    return (
        f"none of {what} can be learnt from: undecodable images, texts that the model's tokenizer "
        f"does not take as they are, or more tokens than {config.flag('model.max_len')} "
        f"{config.model.max_len}"
    )


def stop_at_empty_batches(
    batches: Iterable[tuple[MicroBatch, ...]], first_step: int, config: TrainConfig
) -> Iterator[tuple[MicroBatch, ...]]:
    """The batches of a run's steps, as long as not too many in a row have nothing to learn from.

    Whether a batch is empty is one for all workers, so that all of them stop at the same step.

    Args:
        batches: a worker's micro-batches of each step.
        first_step: that they begin with.
        config: of the run.

    Raises:
        C3LError: there are MAX_EMPTY_BATCHES in a row.
    """
    num_empty = 0
    for step, batch in enumerate(batches, start=first_step):
        num_empty = num_empty + 1 if batch[0]["is_empty"] else 0
        if num_empty == MAX_EMPTY_BATCHES:
            what = (
                f"the images of {num_empty} batches in a row, the last of them of step {step + 1},"
            )
            raise C3LError(explain_nothing_usable(what, config))
        yield batch


def find_too_long(micro_batch: MicroBatch, max_len: int) -> list[int]:
    """The numbers of the images that have a text of more tokens."""
    is_long_R = micro_batch["attention_mask"].sum(dim=1) > max_len
    owners: list[int] = micro_batch["owner_R"][is_long_R].tolist()
    return sorted(set(owners))


def _skip_examples(examples: list[Example | SkipReason], too_long: list[Example]) -> None:
    for number, example in enumerate(examples):
        if any(example is long_example for long_example in too_long):
            examples[number] = "too_long"


def check_takes_text(name: str, revision: str | None = None) -> None:
    """Refuses a model that takes no text without an image: the objectives compare the two.

    Raises:
        PreflightError: its processor refuses one.
    """
    processor = load_processor(name, revision=revision)
    try:
        processor(text=["What is it?"], return_tensors="pt")
    except Exception as error:  # processors raise errors of many kinds
        raise PreflightError(
            f"--model.name {name}: takes no text without an image, so it cannot be tuned here "
            f"({error})"
        ) from error


def load_training_processor(config: TrainConfig) -> Any:
    """The processor of the model that is tuned: `load_processor`'s, with all that is pinned."""
    model = config.model
    return load_processor(
        model.name, model.template_args, revision=model.revision, date=config.prompt_date
    )


@cache  # a reading task makes many batches
def load_processor(
    name: str,
    template_args: tuple[str, ...] = (),
    *,
    revision: str | None = None,
    date: str | None = None,
) -> Any:
    """The processor of a model, which preprocesses an image once for its texts.

    Args:
        name: of the model.
        template_args: of its chat template.
        revision: of a hub name.
        date: that the template writes in place of today's.
    """
    processor = processors.load_processor(name, template_args, revision=revision)
    pin_date(processor, date)
    return preprocess_once(processor)
