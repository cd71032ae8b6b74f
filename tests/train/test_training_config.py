from collections.abc import Callable
from typing import Any

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.scenes import world
from c3l_ray.train.training_config import Alignment, Contrast, Optimization, Progress, TrainConfig, Tuned, Workers
from c3l_ray.train.reading.mixture import Mixture


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Tuned(name="x", lora_rank=0), "--model.lora-rank 0: must be at least 1"),
        (lambda: Tuned(name="x", lora_dropout=1.0), "--model.lora-dropout 1.0: must be in"),
        (lambda: Contrast(temperature=0.0), "--contrast.temperature 0.0: must be above 0"),
        (lambda: Contrast(nll_weight=-1.0), "--contrast.nll-weight -1.0"),
        (
            lambda: Contrast(similarity="likelihood", in_batch_negatives=True),
            "--contrast.in-batch-negatives",
        ),
        (
            lambda: Contrast(similarity="likelihood", anchor="description"),
            "--contrast.anchor description",
        ),
        (lambda: Alignment(least_temperature=0.5), "--alignment.least-temperature 0.5"),
        (lambda: Alignment(windows=0), "--alignment.windows 0"),
        (lambda: Optimization(batch_size=0), "--optim.batch-size 0"),
        (lambda: Optimization(micro_batch=0), "--optim.micro-batch 0"),
        (lambda: Optimization(epochs=0.0), "--optim.epochs 0.0"),
        (lambda: Optimization(steps=0), "--optim.steps 0"),
        (lambda: Optimization(learning_rate=0.0), "--optim.learning-rate 0.0"),
        (lambda: Optimization(clip_norm=float("nan")), "--optim.clip-norm nan"),
        (lambda: Optimization(warm_up=1.0), "--optim.warm-up 1.0"),
        (lambda: Workers(num=0), "--workers.num 0"),
        (lambda: Workers(num=2, least=3), "--workers.least 3: must be in 1 to"),
        (lambda: Workers(max_failures=-1), "--workers.max-failures -1"),
        (lambda: Workers(gpus=-1), "--workers.gpus -1"),
        (lambda: Progress(held_out=1.0), "--progress.held-out 1.0"),
        (lambda: Progress(checkpoint_every=0), "--progress.checkpoint-every 0"),
        (lambda: Progress(keep=0), "--progress.keep 0"),
        (
            lambda: Mixture(correction_share=1.5),
            "--mixture.correction-share 1.5: must be in [0, 1]",
        ),
        (lambda: Mixture(kinds=("a.json",)), "--mixture.kinds a.json: must be SOURCE=KIND"),
        (lambda: Mixture(kinds=("a.json=long",)), "--mixture.kinds a.json=long: must be SOURCE=KI"),
    ],
)
def test_a_wrong_value_is_refused_by_its_flag(made: Callable[[], Any], message: str) -> None:
    with pytest.raises(PreflightError) as refused:
        made()
    assert str(refused.value).startswith(message)


def test_a_batch_has_an_image_for_every_worker(train_config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(PreflightError, match=r"--optim.batch-size 4: must be at least 5"):
        train_config(workers=Workers(num=5))


@pytest.mark.parametrize(
    ("objective", "tune", "expected", "rate"),
    [
        ("c3l", "auto", "lora", 2e-4),
        ("c3l", "full", "full", 2e-5),
        ("cgvlm", "auto", "adapter", 1e-3),
        ("cgvlm", "lora", "lora", 2e-4),
        ("vigc", "auto", "lora", 2e-4),
        ("vigc", "adapter", "adapter", 1e-3),
    ],
)
def test_what_learns_and_how_fast_follows_from_the_objective(
    train_config: Callable[..., TrainConfig], objective: str, tune: Any, expected: str, rate: float
) -> None:
    config = train_config(objective=objective, model=Tuned(name=str(world.LLAVA), tune=tune))
    assert (config.tune, config.learning_rate) == (expected, rate)
