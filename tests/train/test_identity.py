"""Which settings bind a training's output, and which may change before it is resumed."""

from pathlib import Path
from typing import Any

import pytest

from c3l_ray.methods.labels import LabelRules
from c3l_ray.scenes import world
from c3l_ray.train.identity import training_identity
from c3l_ray.train.mixture_config import Mixture
from c3l_ray.train.objectives import Alignment, Answers, Contrast
from c3l_ray.train.reading.sources import RecordsSource, open_source
from c3l_ray.train.training_config import (
    ConversationLayout,
    ModelToTune,
    Optimization,
    Progress,
    Workers,
)
from tests.train.records import MakeTrainConfig, write_run

LLAVA = str(world.LLAVA)
EVEN = Mixture(weighting="even")


@pytest.fixture
def source(train_config: MakeTrainConfig) -> RecordsSource:
    config = train_config()
    write_run(*config.input, num_scenes=4)
    opened = open_source(config)
    assert isinstance(opened, RecordsSource)
    return opened


@pytest.mark.parametrize(
    ("objective", "changes", "binds"),
    [
        ("c3l", {"optim": Optimization(batch_size=4, micro_batch=1)}, False),
        ("cgvlm", {"optim": Optimization(batch_size=4, micro_batch=1)}, False),
        ("vigc", {"optim": Optimization(batch_size=4, micro_batch=1)}, False),
        ("c3l", {"optim": Optimization(batch_size=2)}, True),
        ("c3l", {"optim": Optimization(batch_size=4, seed=1)}, True),
        ("c3l", {"optim": Optimization(batch_size=4, steps=7)}, True),
        ("c3l", {"optim": Optimization(batch_size=4, learning_rate=2e-4)}, False),  # the default
        ("c3l", {"model": ModelToTune(name=LLAVA, activation_checkpointing="on")}, False),
        ("c3l", {"model": ModelToTune(name=LLAVA, tune="lora")}, False),  # what auto is
        ("c3l", {"model": ModelToTune(name=LLAVA, lora_rank=8)}, True),
        ("cgvlm", {"model": ModelToTune(name=LLAVA, lora_rank=8)}, False),
        ("c3l", {"model": ModelToTune(name=LLAVA, max_len=4096)}, True),
        ("c3l", {"alignment": Alignment(windows=4), "mixture": Mixture(weighting="even")}, False),
        ("cgvlm", {"labels": LabelRules(margin=1.0), "contrast": Contrast(nll_weight=2.0)}, False),
        ("vigc", {"labels": LabelRules(by="gain"), "alignment": Alignment(weight=2.0)}, False),
        ("c3l", {"labels": LabelRules(margin=1.0)}, True),
        ("c3l", {"contrast": Contrast(nll_weight=2.0)}, True),
        ("cgvlm", {"alignment": Alignment(windows=4)}, True),
        ("vigc", {"mixture": Mixture(weighting="even")}, True),
        ("answers", {"answers": Answers(pair_weight=1.0)}, True),
        ("answers", {"answers": Answers(min_spread=0.1)}, True),
        ("answers", {"answers": Answers(min_readable=0.5, readable_replies=8)}, False),
        ("answers", {"labels": LabelRules(margin=1.0), "mixture": EVEN}, False),
        ("answers", {"optim": Optimization(batch_size=4, micro_batch=1)}, False),
        ("c3l", {"answers": Answers(by="gain")}, False),
        ("vigc", {"layout": ConversationLayout(history="no")}, False),  # a run needs no layout
        ("c3l", {"layout": ConversationLayout(history="no")}, False),
        ("c3l", {"progress": Progress(max_held_out=3, log_every=1, checkpoint_every=1)}, False),
        ("c3l", {"progress": Progress(held_out=0.3)}, True),  # other images are learnt
        ("c3l", {"workers": Workers(num=2, readers=1)}, False),
        ("c3l", {"max_pixels": 1_048_576, "verify": False}, False),
        ("c3l", {"max_pixels": 4096}, True),
        ("c3l", {"prompt_date": "2024-02-29"}, True),
        ("c3l", {"model": ModelToTune(name=LLAVA, precision="bfloat16")}, True),
        ("c3l", {"model": ModelToTune(name=LLAVA, revision="c0ffee")}, False),  # of the model
        ("c3l", {"mix_versions": True, "job": "c3l"}, False),
    ],
)
def test_what_is_part_of_the_weights_binds_their_folder(
    train_config: MakeTrainConfig,
    source: RecordsSource,
    objective: Any,
    changes: dict[str, Any],
    binds: bool,
) -> None:
    before, after = (
        training_identity(train_config(objective=objective, **fields), source, "m")
        for fields in ({}, changes)
    )
    assert (before.origin != after.origin) == binds


@pytest.mark.parametrize(
    ("objective", "negatives"),
    [
        ("c3l", {"contrast": Contrast(in_batch_negatives=True)}),
        ("cgvlm", {"alignment": Alignment(negatives="micro-batch")}),
    ],
)
def test_the_micro_batch_binds_where_its_images_are_negatives(
    train_config: MakeTrainConfig, source: RecordsSource, objective: Any, negatives: dict[str, Any]
) -> None:
    origins = {
        training_identity(
            train_config(
                objective=objective,
                optim=Optimization(batch_size=4, micro_batch=micro_batch),
                **negatives,
            ),
            source,
            "m",
        ).origin
        for micro_batch in (1, 4)
    }
    assert len(origins) == 2


def test_versions_bind(
    train_config: MakeTrainConfig, source: RecordsSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = training_identity(train_config(), source, "m")
    assert before.content["versions"]["torch"] is not None
    monkeypatch.setattr("c3l_ray.identity.__version__", "0")
    assert training_identity(train_config(), source, "m").origin != before.origin


def test_the_data_and_the_model_bind(train_config: MakeTrainConfig, tmp_path: Path) -> None:
    origins = set()
    for number, model in ((4, "m"), (5, "m"), (5, "n")):
        config = train_config(input=(str(tmp_path / f"run-{number}-{model}"),))
        write_run(*config.input, num_scenes=number)
        origins.add(training_identity(config, open_source(config), model).origin)
    assert len(origins) == 3
