"""Turns that are scored later: what --no-score excludes, and what refuses a run without scores."""

from typing import Any

import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.identity import generation_identity
from c3l_ray.model_config import ClipModel, Pools, ScorerModel
from c3l_ray.no_score import check_scored
from c3l_ray.workflows.c3l_config import C3LConfig
from tests.examples import MakeConfig

UNSCORED = {"score": False, "clip": ClipModel()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep_best": True, "answers": 2}, "--keep-best: needs scores, and --no-score leaves"),
        ({"token_gains": True}, "--token-gains: needs scores"),
        ({"keep_images": False}, "--no-keep-images: jobs.score finds the images in the records"),
        ({"scorer": ScorerModel(name="a/b")}, "--scorer.name a/b: belongs to the scoring"),
        ({"scorer": ScorerModel(baseline="grey")}, "--scorer.baseline grey: belongs to"),
        ({"clip": ClipModel(name="ViT-L-14")}, "--clip.name ViT-L-14: belongs to the scoring"),
        ({"pools": Pools(scorers=2)}, "--pools.scorers 2: belongs to the scoring"),
    ],
)
def test_a_flag_about_scores_is_refused_without_them(
    config: MakeConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PreflightError) as refused:
        config(**{**UNSCORED, **changes})
    assert message in str(refused.value)
    config(**UNSCORED, pools=Pools(generators=2), answers=2)


def test_c3l_needs_scores(config: MakeConfig) -> None:
    of_generation = vars(config(**UNSCORED))
    with pytest.raises(PreflightError, match="--no-score: training needs the scores"):
        C3LConfig(**of_generation)


def test_what_is_not_scored_has_no_scorer_in_its_identity(config: MakeConfig) -> None:
    content = generation_identity(config(**UNSCORED), model="m").content
    of_scorer = {name for name, value in content.items() if name.startswith("scorer")}
    assert len(of_scorer) == 4 and not any(content[name] for name in of_scorer)
    assert content["clip"] is None and content["model"] == "m"
    scored = generation_identity(config(), model="m", scorer="s", clip="c").content
    assert scored.keys() == content.keys() and scored["scorer_dtype"] == "auto"


def test_a_run_without_scores_is_refused_with_the_command_that_scores_it() -> None:
    run = {"config": {"score": False, "model": {"name": "my model"}}}
    with pytest.raises(PreflightError) as refused:
        check_scored("--input", "a run/", run)
    assert "--input a run/: its turns have no scores" in str(refused.value)
    command = (
        "python -m jobs.score --input 'a run/' --output 'a run-scored' --scorer.name 'my model'"
    )
    assert str(refused.value).endswith(f"\n{command}")
    scored_runs: list[dict[str, Any]] = [{}, {"config": {}}, {"config": {"score": True}}]
    for scored in scored_runs:
        check_scored("--input", "run", scored)
