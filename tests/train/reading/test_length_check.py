"""What is said before the start of images that training would skip."""

import logging
from typing import Any

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.scenes import world
from c3l_ray.schema import Record
from c3l_ray.train.reading.length_check import check_lengths, find_filler
from c3l_ray.train.reading.order import FileRows
from c3l_ray.train.reading.training_data import TrainingData
from c3l_ray.train.training_config import ModelToTune
from tests.train.records import MakeTrainConfig, make_record


def hold_records(records: list[Record]) -> TrainingData:
    """Data of two files, the first with three records."""
    files = {"first": records[:3], "second": records[3:]}
    return TrainingData(
        files=tuple(
            FileRows(address=name, rows=tuple(range(len(content))))
            for name, content in files.items()
        ),
        held_out=(),
        quantiles={},
        read=lambda address, rows: [files[address][row] for row in rows],
    )


def make_records(num_long: int) -> list[Record]:
    """Ten records, the first of them with a long answer, and the very last too."""
    records = [make_record(number) for number in range(10)]
    for record in (*records[:num_long], records[9]):
        record["turns"][1]["answer"] = "red " * 300
    return records


@pytest.mark.parametrize("objective", ["c3l", "vigc"])
def test_a_limit_below_the_first_images_is_refused(
    train_config: MakeTrainConfig, objective: str
) -> None:
    config = train_config(objective=objective, model=ModelToTune(name=str(world.LLAVA), max_len=10))
    message = r"--model.max-len 10: the first 8 images need (\d+) to (\d+) tokens with their texts"
    with pytest.raises(PreflightError, match=message):
        check_lengths(hold_records(make_records(8)), config)


@pytest.mark.parametrize(
    ("num_long", "spoil_image", "expected"),
    [
        (0, False, None),  # the last record is not looked at
        (3, False, "of the first 8 images 3 will be skipped (too_long 3)"),
        (7, True, "of the first 8 images 7 will be skipped (unusable_image 1, too_long 6)"),
    ],
)
def test_a_limit_below_some_images_is_warned_of(
    train_config: MakeTrainConfig,
    caplog: pytest.LogCaptureFixture,
    num_long: int,
    spoil_image: bool,
    expected: Any,
) -> None:
    records = make_records(num_long)
    if spoil_image:
        records[0]["image"] = b"damaged"
    config = train_config(model=ModelToTune(name=str(world.LLAVA), max_len=200))
    with caplog.at_level(logging.WARNING):
        check_lengths(hold_records(records), config)
    assert expected in caplog.text if expected else not caplog.text


def test_the_first_record_that_can_be_learnt_from_stands_in_for_others(
    train_config: MakeTrainConfig,
) -> None:
    records = make_records(3)
    records[3]["image"] = None
    config = train_config(model=ModelToTune(name=str(world.LLAVA), max_len=200))
    assert find_filler(hold_records(records), config) is records[4]
    assert find_filler(hold_records(records[4:]), config) is records[4]


def test_images_of_which_none_can_be_learnt_from_are_refused(train_config: MakeTrainConfig) -> None:
    records = make_records(0)
    for record in records:
        record["image"] = b"damaged"
    with pytest.raises(PreflightError, match=r"--input .*: none of the first 10 images can be le"):
        find_filler(hold_records(records), train_config())
