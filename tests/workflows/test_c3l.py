from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.config import GeneratorModel, Sampling, ScorerModel
from c3l_ray.errors import PreflightError
from c3l_ray.identity import generation_identity
from c3l_ray.train.objectives import Contrast
from c3l_ray.train.training_config import TrainingOptions
from c3l_ray.workflows.c3l import C3LConfig, c3l_identity, generation_config, run_c3l

MakeC3LConfig = Callable[..., C3LConfig]


@pytest.fixture
def c3l_config(tmp_path: Path) -> MakeC3LConfig:
    def make(**changes: Any) -> C3LConfig:
        fields: dict[str, Any] = {
            "input": ("in",),
            "output": str(tmp_path / "out"),
            "model": GeneratorModel(name="m"),
        }
        return C3LConfig(**{**fields, **changes})

    return make


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rounds": -1}, "--rounds -1: must be at least 0"),
        ({"top": 0}, "--top 0: must be above 0"),
        ({"top": 2.5}, r"--top 2\.5: must be a share below 1 or a whole number of turns"),
        ({"keep_images": False}, "--no-keep-images: training needs the images"),
        (
            {"model": GeneratorModel(name="m", trust_remote_code=True)},
            "--model.trust-remote-code: training does not load models with code of their own",
        ),
        (
            {"training": TrainingOptions(contrast=Contrast(token_weights="vig"))},
            "--training.contrast.token-weights vig: needs the flag --token-gains",
        ),
    ],
)
def test_a_job_that_cannot_end_is_refused_before_the_first_stage(
    c3l_config: MakeC3LConfig, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(PreflightError, match=message):
        c3l_config(**fields)


def test_every_round_has_seeds_of_its_own_unless_rounds_are_to_be_compared(
    c3l_config: MakeC3LConfig,
) -> None:
    def seeds(config: C3LConfig) -> list[int]:
        return [generation_config(config, "m", number).sampling.seed for number in range(3)]

    other = c3l_config(sampling=Sampling(seed=1))
    assert seeds(c3l_config()) == [0, 1, 2]
    assert not set(seeds(c3l_config())) & set(seeds(other))
    assert seeds(c3l_config(fresh_seeds=False)) == [0, 0, 0]


def test_a_revision_that_training_would_not_take_is_refused(c3l_config: MakeC3LConfig) -> None:
    config = c3l_config(model=GeneratorModel(name="owner/model", revision="v1"))
    with pytest.raises(PreflightError, match=r"--model\.revision v1: training takes the hub's lat"):
        run_c3l(config)


def test_a_tuned_model_has_no_revision(c3l_config: MakeC3LConfig) -> None:
    config = c3l_config(model=GeneratorModel(name="owner/model", revision="c0ffee"))
    models = [generation_config(config, name, i).model for i, name in enumerate(("o/m", "tuned"))]
    assert [(model.name, model.revision) for model in models] == [
        ("o/m", "c0ffee"),
        ("tuned", None),
    ]


def test_versions_are_part_of_the_identity_on_their_own(c3l_config: MakeC3LConfig) -> None:
    config = c3l_config()
    generation = generation_identity(config, model="m", scorer="s", clip="c")
    content = c3l_identity(config, generation).content
    assert content["versions"] == generation.content["versions"]
    assert {**content["generation"], "versions": content["versions"]} == generation.content


def test_every_round_is_scored_by_the_model_as_it_came(c3l_config: MakeC3LConfig) -> None:
    tuned = generation_config(c3l_config(), "out/train-0/model", 1)
    assert (tuned.model.name, tuned.scorer_name) == ("out/train-0/model", "m")
    config = c3l_config(scorer=ScorerModel(name="judge"))
    judged = generation_config(config, "out/train-0/model", 1)
    assert judged.scorer_name == "judge"
