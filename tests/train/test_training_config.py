from typing import Any

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.methods.labels import LabelRules
from c3l_ray.scenes import world
from c3l_ray.train.mixture_config import Mixture
from c3l_ray.train.objectives import Alignment, Answers, Contrast
from c3l_ray.train.training_config import (
    ModelToTune,
    Optimization,
    Progress,
    TrainConfig,
    Workers,
)
from c3l_ray.workflows.c3l_config import C3LConfig
from tests.test_pages import list_flags
from tests.train.records import MakeTrainConfig


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"model": ModelToTune(name="x", lora_rank=0)},
            "--model.lora-rank 0: must be at least 1",
        ),
        (
            {"model": ModelToTune(name="x", lora_dropout=1.0)},
            "--model.lora-dropout 1.0: must be in",
        ),
        ({"max_pixels": 0}, "--max-pixels 0: must be at least 1"),
        ({"labels": LabelRules(margin=-1.0)}, "--labels.margin -1.0: must be at least 0"),
        (
            {"contrast": Contrast(temperature=0.0)},
            "--contrast.temperature 0.0: must be above 0",
        ),
        ({"contrast": Contrast(nll_weight=-1.0)}, "--contrast.nll-weight -1.0"),
        (
            {"contrast": Contrast(similarity="likelihood", in_batch_negatives=True)},
            "--contrast.in-batch-negatives",
        ),
        (
            {"contrast": Contrast(similarity="likelihood", anchor="description")},
            "--contrast.anchor description",
        ),
        ({"alignment": Alignment(min_temperature=0.5)}, "--alignment.min-temperature 0.5"),
        ({"alignment": Alignment(min_temperature=0.0)}, "--alignment.min-temperature 0.0"),
        ({"alignment": Alignment(windows=0)}, "--alignment.windows 0"),
        ({"answers": Answers(beta=0.0)}, "--answers.beta 0.0: must be above 0"),
        ({"answers": Answers(min_spread=2.0, max_spread=1.0)}, "--answers.max-spread 1.0"),
        ({"answers": Answers(min_readable=1.1)}, "--answers.min-readable 1.1"),
        ({"answers": Answers(pair_loss="ipo")}, "--answers.pair-loss ipo: has no effect without"),
        (
            {
                "objective": "answers",
                "answers": Answers(pair_weight=1.0),
                "model": ModelToTune(name="x", tune="full"),
            },
            "--answers.pair-weight 1.0: --model.tune full changes the model",
        ),
        (
            {
                "objective": "answers",
                "answers": Answers(anchor=1.0),
                "model": ModelToTune(name="x", tune="adapter"),
            },
            "--answers.anchor 1.0: --model.tune adapter changes the model",
        ),
        ({"optim": Optimization(batch_size=0)}, "--optim.batch-size 0"),
        ({"optim": Optimization(micro_batch=0)}, "--optim.micro-batch 0"),
        ({"optim": Optimization(epochs=0.0)}, "--optim.epochs 0.0"),
        ({"optim": Optimization(steps=0)}, "--optim.steps 0"),
        ({"optim": Optimization(learning_rate=0.0)}, "--optim.learning-rate 0.0"),
        ({"optim": Optimization(max_grad_norm=float("nan"))}, "--optim.max-grad-norm nan"),
        ({"optim": Optimization(warm_up=1.0)}, "--optim.warm-up 1.0"),
        ({"workers": Workers(num=0)}, "--workers.num 0"),
        ({"workers": Workers(num=2, min=3)}, "--workers.min 3: must be at most"),
        ({"workers": Workers(num=2, min=0)}, "--workers.min 0: must be at least 1"),
        ({"workers": Workers(max_failures=-1)}, "--workers.max-failures -1"),
        ({"workers": Workers(gpus=-1)}, "--workers.gpus -1"),
        ({"progress": Progress(held_out=1.0)}, "--progress.held-out 1.0"),
        ({"progress": Progress(checkpoint_every=0)}, "--progress.checkpoint-every 0"),
        ({"progress": Progress(keep_checkpoints=0)}, "--progress.keep-checkpoints 0"),
        (
            {"mixture": Mixture(correction_share=1.5)},
            "--mixture.correction-share 1.5: must be in [0, 1]",
        ),
        (
            {"mixture": Mixture(kinds=("a.json",))},
            "--mixture.kinds a.json: must be SOURCE=KIND",
        ),
        (
            {"mixture": Mixture(kinds=("a.json=long",))},
            "--mixture.kinds a.json=long: must be SOURCE=KI",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_its_flag(
    train_config: MakeTrainConfig, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(PreflightError) as refusal:
        train_config(**changed)
    assert str(refusal.value).startswith(message)


def test_a_batch_has_an_image_for_every_worker(train_config: MakeTrainConfig) -> None:
    with pytest.raises(PreflightError, match=r"--optim.batch-size 4: must be at least 5"):
        train_config(workers=Workers(num=5))


@pytest.mark.parametrize(
    ("objective", "tune", "mode", "learning_rate"),
    [
        ("c3l", "auto", "lora", 2e-4),
        ("c3l", "full", "full", 2e-5),
        ("cgvlm", "auto", "adapter", 1e-3),
        ("cgvlm", "lora", "lora", 2e-4),
        ("vigc", "auto", "lora", 2e-4),
        ("vigc", "adapter", "adapter", 1e-3),
        ("answers", "auto", "lora", 2e-4),
    ],
)
def test_what_learns_and_how_fast_follows_from_the_objective(
    train_config: MakeTrainConfig, objective: str, tune: Any, mode: str, learning_rate: float
) -> None:
    config = train_config(objective=objective, model=ModelToTune(name=str(world.LLAVA), tune=tune))
    assert (config.tune_mode, config.peak_learning_rate) == (mode, learning_rate)


@pytest.mark.parametrize(
    ("path", "of_train", "of_c3l"),
    [
        ("model.name", "--model.name", "--model.name"),
        ("model.max_len", "--model.max-len", "--tuning.max-len"),
        ("model.template_args", "--model.template-args", "--model.template-args"),
        ("optim.learning_rate", "--optim.learning-rate", "--training.optim.learning-rate"),
        ("export", "--export", "--training.export"),
        ("max_pixels", "--max-pixels", "--max-pixels"),
    ],
)
def test_a_setting_has_the_flag_of_the_job_that_trains(
    train_config: MakeTrainConfig, path: str, of_train: str, of_c3l: str
) -> None:
    flags = [train_config(job=job).flag(path) for job in ("train", "c3l")]
    assert flags == [of_train, of_c3l]
    known = [set(list_flags(config)) for config in (TrainConfig, C3LConfig)]
    assert all(flag in names for flag, names in zip(flags, known, strict=True))


def test_what_is_switched_off_has_a_flag_too(train_config: MakeTrainConfig) -> None:
    flags = [train_config(job=job).flag("verify", off=True) for job in ("train", "c3l")]
    assert flags == ["--no-verify", "--training.no-verify"]
