"""The records of a batch as the tensors of its shares: what reading tasks do."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from c3l_ray.errors import C3LError
from c3l_ray.model_files import local
from c3l_ray.train.reading import order
from c3l_ray.train.reading.batches import Batch, batch
from c3l_ray.train.training_config import TrainConfig
from c3l_ray.train.reading.examples import Draw, Standings, example
from c3l_ray.train.reading.chat_text import Example


def encode(
    records: Sequence[Mapping[str, Any]],
    config: TrainConfig,
    standings: Standings,
    *,
    num_workers: int,
    rounds: int,
    draws: Sequence[Draw | None] | None = None,
) -> Iterator[Batch]:
    """The shares of one batch, round after round and worker after worker.

    All shares have the same number of images: places that are left over, and those of records that
    the model cannot read as they are, hold another example at weight 0.

    Args:
        records: of the batch, with their images.
        config: of the run.
        standings: sorted scores by kind, for `--within kind`.
        num_workers: that share the batch.
        rounds: in which they take it.
        draws: of the mixture, one for each record.

    Raises:
        C3LError: no record of the batch can be used.
    """
    processor = load_processor(config.model.name)
    examples = [
        example(record, processor, config, standings, draw)
        for record, draw in zip(records, draws or [None] * len(records), strict=True)
    ]
    size = -(-len(records) // (num_workers * rounds))
    for share in order.shares(len(records), num_workers, rounds):
        while True:
            filler = next((each for each in examples if each is not None), None)
            if filler is None:
                raise C3LError(
                    f"none of the {len(records)} images of a batch can be learnt from: undecodable "
                    f"images, texts that the model's tokenizer does not take as they are, or more "
                    f"tokens than --model.max-len {config.model.max_len}"
                )
            chosen = [*examples[share], *[None] * size][:size]
            made = batch(
                [each or filler for each in chosen],
                [float(each is not None) for each in chosen],
                processor,
            )
            long = too_long(made, config.model.max_len)
            if not long:
                break
            _forget(examples, [chosen[place] or filler for place in long])
        yield made


def too_long(batch: Batch, max_len: int) -> list[int]:
    """The images of a share with a sequence of more tokens."""
    owners: list[int] = batch["owner_R"][batch["attention_mask"].sum(dim=1) > max_len].tolist()
    return sorted(set(owners))


def _forget(examples: list[Example | None], these: list[Example]) -> None:
    for place, each in enumerate(examples):
        if any(each is one for one in these):
            examples[place] = None


@cache
def load_processor(name: str) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(local(name))
