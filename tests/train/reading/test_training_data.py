"""From a run to the rows and turns that are learnt."""

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.methods.labels import LabelRules
from c3l_ray.train.reading.order import count_images
from c3l_ray.train.reading.sources import open_source
from c3l_ray.train.reading.training_data import load_training_data, summarize_mixture
from c3l_ray.train.training_config import Optimization, Progress
from tests.train.records import MakeTrainConfig, write_run

HALF_HELD_OUT = Progress(held_out=0.5)


def test_whole_records_are_learnt_or_held_out(train_config: MakeTrainConfig) -> None:
    config = train_config(progress=HALF_HELD_OUT)
    write_run(*config.input, num_scenes=20)
    data = load_training_data(open_source(config), config)
    assert count_images(data.files) + count_images(data.held_out) == 20
    assert count_images(data.held_out) > 0
    assert data.sets == () and data.quantiles == {} and summarize_mixture(data, config) == {}
    within_kind = train_config(labels=LabelRules(within="kind"))
    quantiles = load_training_data(open_source(within_kind), within_kind).quantiles
    assert set(quantiles) == {"dialogue", "detail", "reasoning", "short", "yes_no"}


def test_single_turns_are_learnt_in_their_sets(train_config: MakeTrainConfig) -> None:
    config = train_config(objective="vigc", progress=HALF_HELD_OUT)
    write_run(*config.input, num_scenes=20, scenes_per_file=3)
    data = load_training_data(open_source(config), config)
    assert count_images(data.files) + count_images(data.held_out) == 20
    summary = summarize_mixture(data, config)
    assert list(summary) == ["detail", "dialogue", "reasoning", "short", "yes_no"]
    for turn_set in data.sets:
        for number, row, place in turn_set.turns.tolist():
            file = data.files[number]
            assert row in file.rows
            (record,) = data.read(file.address, [row])
            assert record["turns"][place]["kind"] == turn_set.name
    assert sum(line["turns"] for line in summary.values()) == 5 * count_images(data.files)
    assert sum(line["share"] for line in summary.values()) == pytest.approx(1, abs=1e-3)


def test_fewer_images_than_a_batch_are_refused(train_config: MakeTrainConfig) -> None:
    config = train_config(optim=Optimization(batch_size=4), progress=Progress(held_out=0.0))
    write_run(*config.input, num_scenes=3)
    with pytest.raises(PreflightError, match="3 images to learn from, fewer than"):
        load_training_data(open_source(config), config)
