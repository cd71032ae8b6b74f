from collections.abc import Callable
from typing import Any

import pytest

from c3l_ray.answer_config import AnswerConfig
from c3l_ray.config import (
    GenerateConfig,
    GeneratorModel,
    Pools,
    RequiredScorerModel,
    Sampling,
    ScoreConfig,
    ScorerModel,
    ScorerPool,
)
from c3l_ray.errors import PreflightError
from c3l_ray.select_config import SelectConfig
from tests.examples import MakeConfig


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"model": GeneratorModel(name="m", max_seqs=0)}, "--model.max-seqs 0"),
        ({"model": GeneratorModel(name="m", tensor_parallel=0)}, "--model.tensor-parallel 0"),
        ({"model": GeneratorModel(name="m", gpu_memory=1.5)}, "--model.gpu-memory 1.5"),
        ({"sampling": Sampling(temperature=-1)}, "--sampling.temperature -1"),
        ({"sampling": Sampling(temperature=float("nan"))}, "--sampling.temperature nan"),
        ({"sampling": Sampling(top_p=0)}, "--sampling.top-p 0"),
        ({"sampling": Sampling(max_tokens=0)}, "--sampling.max-tokens 0"),
        ({"scorer": ScorerModel(max_tokens=0)}, "--scorer.max-tokens 0"),
        ({"pools": Pools(generators=0)}, "--pools.generators 0"),
        ({"pools": Pools(scorer_gpus=-1)}, "--pools.scorer-gpus -1"),
        ({"turns_per_image": 0}, "--turns-per-image 0"),
        ({"max_pixels": 0}, "--max-pixels 0"),
        ({"max_failed_share": 2.0}, "--max-failed-share 2.0"),
        ({"max_hours": 0.0}, "--max-hours 0.0"),
        ({"max_hours": float("inf")}, "--max-hours inf"),
        ({"max_price": -1.0, "price_per_hour": 1.0}, "--max-price -1.0"),
        ({"price_per_hour": float("nan")}, "--price-per-hour nan"),
    ],
)
def test_a_wrong_value_names_its_flag(
    config: MakeConfig, fields: dict[str, Any], flag: str
) -> None:
    with pytest.raises(PreflightError, match=f"{flag}: must be "):
        config(**fields)


@pytest.mark.parametrize("config_class", [GenerateConfig, AnswerConfig])
def test_what_every_job_of_records_refuses_each_of_them_does(
    config_class: type[GenerateConfig] | type[AnswerConfig],
) -> None:
    required: dict[str, Any] = {
        "input": ("in",),
        "output": "out",
        "model": GeneratorModel(name="m"),
    }
    with pytest.raises(PreflightError, match=r"--retry-failed.*: --scorer\.baseline mismatched"):
        config_class(**required, scorer=ScorerModel(baseline="mismatched"), retry_failed=())
    with pytest.raises(PreflightError, match=r"--max-price 5\.0: needs the price of an hour"):
        config_class(**required, max_price=5.0)
    config_class(**required, price_per_hour=2.5)  # as of a plan, pasted


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"answers": -1}, "--answers -1: must be at least 0"),
        ({"answer_temperature": -1.0}, "--answer-temperature -1.0: must be at least 0"),
        ({"answer_temperature": 0.0, "answers": 2}, "--answer-temperature 0.0: would give one"),
        ({"keep_best": True}, "--keep-best: has no answers to choose from"),
        ({"keep_best": True, "answers": 2, "correct": True}, "--keep-best: .* --correct"),
        ({"keep_best": True, "answers": 2, "method": "vigc"}, "--keep-best: .* --method vigc"),
        ({"keep_best": True, "answers": 2, "token_gains": True}, "--keep-best: .* --token-gains;"),
        ({"keep_best": True, "answers": 2, "best_by": "random"}, "--best-by random: is no score"),
    ],
)
def test_settings_of_answers_that_make_no_sense_are_refused(
    config: MakeConfig, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(PreflightError, match=message):
        config(**fields)
    assert config(answer_temperature=0.0, answers=1).answer_sampling.temperature == 0
    assert config(keep_best=True, answers=2).kept_by == "grounding"
    assert config(answers=2).kept_by is None


@pytest.mark.parametrize("top", [0, -0.1, 1.1, 2.5, float("nan"), float("inf")])
def test_the_top_is_a_share_or_a_number_of_turns(top: float) -> None:
    with pytest.raises(PreflightError, match=f"--top {top}: must be "):
        SelectConfig(input="i", top=top)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ScoreConfig(
            input=("i",),
            output="o",
            scorer=RequiredScorerModel(name="s"),
            pools=ScorerPool(scorers=0),
        ),
        lambda: ScoreConfig(
            input=("i",), output="o", scorer=RequiredScorerModel(name="s", max_tokens=0)
        ),
    ],
)
def test_a_wrong_value_of_scoring_is_refused(make: Callable[[], ScoreConfig]) -> None:
    with pytest.raises(PreflightError, match=r"--(pools\.scorers|scorer\.max-tokens) 0: must be "):
        make()
